"""Separation of base classes from new ones."""
