"""Class texts: from names and sentences to class vectors."""
