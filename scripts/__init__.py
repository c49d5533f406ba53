"""Commands that users run by hand."""
