"""The files next to a result that record what it was made from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from data.decoding import content_key_or_error
from data.few_shot_dataset import Sample
from runtime.files import atomic_write
from weight_files.hashing import sha256_of

MANIFEST = "manifest.json"
IMAGES = "images.sha256"  # hashes of the test images

Rows = list[tuple[str, str]]  # (name, SHA-256, or why the image could not be read)


def image_rows(samples: Iterable[Sample]) -> Rows:
    """Returns the name and the hash of each image."""
    return [(sample.name, content_key_or_error(sample.path)) for sample in samples]


def rows_digest(rows: Rows) -> str:
    """Returns one hash of names and hashes, in their order."""
    text = "".join(f"{name}\n{key}\n" for name, key in rows)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def write_rows(path: Path, rows: Rows) -> None:
    """Writes rows in the format of `sha256sum`."""
    with atomic_write(path) as file:
        file.writelines(f"{key}  {name}\n" for name, key in rows)


def read_rows(path: Path) -> Rows:
    """Reads what `write_rows` wrote; no rows if there is no file."""
    if not path.is_file():
        return []
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
    pairs = (line.partition("  ") for line in lines)
    return [(name, key) for key, _, name in pairs]


def source_of_scores(result: Path, labels: Path | None) -> dict:
    """Returns what scores.json is about: a result, and its file of labels if folders are not."""
    return {"result.txt": sha256_of(result), "labels": sha256_of(labels) if labels else None}
