"""What is run by hand, and how commands find their packages."""
