"""The files beside a result that record what it was made from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from data.decoding import content_key_or_error
from data.few_shot_dataset import Sample
from runtime.files import atomic_write
from weight_files.hashing import sha256_of

MANIFEST = "manifest.json"
IMAGES = "images.sha256"  # hashes of the test images, beside the manifest

Rows = list[tuple[str, str]]  # (name, SHA-256, or why it could not be read)


def image_rows(items: Iterable[Sample]) -> Rows:
    """The name and the hash of each image."""
    return [(item.name, content_key_or_error(item.path)) for item in items]


def rows_digest(rows: Rows) -> str:
    """One hash of names and contents, in order."""
    text = "".join(f"{name}\n{key}\n" for name, key in rows)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def write_rows(path: Path, rows: Rows) -> None:
    """Writes the rows as `sha256sum` does."""
    with atomic_write(path) as file:
        file.writelines(f"{key}  {name}\n" for name, key in rows)


def read_rows(path: Path) -> Rows:
    """What `write_rows` wrote; empty where there is no such file."""
    if not path.is_file():
        return []
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
    pairs = (line.partition("  ") for line in lines)
    return [(name, key) for key, _, name in pairs]


def scored_from(result: Path, labels: Path | None) -> dict:
    """What scores.json is of: a result and, unless folders are the labels, a file of labels."""
    return {"result.txt": sha256_of(result), "labels": sha256_of(labels) if labels else None}
