"""Manifest, verification and audit of a result."""
