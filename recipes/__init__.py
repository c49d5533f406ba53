"""One experiment, one file, one page."""
