"""Public weight files by their published SHA-256, whatever a file is called.

`known_weights.json` holds what their publishers say. OpenAI's download addresses carry the whole
hash, file names of torchvision and DeiT its first 8 digits, and Hugging Face lists each file's.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("known_weights.json")


@dataclass(frozen=True)
class KnownFile:
    """One public weight file."""

    name: str  # if it is a CLIP of OpenAI's, the name that `--weights` takes
    file: str  # its file name, with its folder if the name alone says nothing
    what: str
    sha256: str  # the whole hash, or as many of its first digits as are known
    source: str
    bytes: int | None = None

    def has_sha256(self, sha256: str) -> bool:
        """Returns whether a file with this hash is this one."""
        return sha256.startswith(self.sha256)


@cache
def known_weights() -> tuple[KnownFile, ...]:
    """Returns all known files, in the order of the list."""
    entries = json.loads(LIST.read_text(encoding="utf-8"))
    return tuple(KnownFile(**entry) for entry in entries)


def find_by_sha256(sha256: str) -> KnownFile | None:
    """Returns the public file with this hash, or None."""
    return next((file for file in known_weights() if file.has_sha256(sha256)), None)


def find_by_name(path: str | Path) -> KnownFile | None:
    """Returns the public file that a file at this path claims to be, or None."""
    return next((file for file in known_weights() if Path(path).match(file.file)), None)
