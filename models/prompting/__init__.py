"""Learned text prompts and their queue."""
