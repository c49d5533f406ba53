"""Hashes of files."""

import hashlib
from functools import partial
from pathlib import Path


def sha256_of(path: str | Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits."""
    return digest_of(path, "sha256")


def digest_of(path: str | Path, algorithm: str) -> str:
    """Returns the hash of a file's content in hexadecimal, by "sha256" or "md5"."""
    with open(path, "rb") as file:
        new = partial(hashlib.new, algorithm, usedforsecurity=False)  # it only names the content
        return hashlib.file_digest(file, new).hexdigest()
