"""Public weight files by their published SHA-256: what a file is, whatever it is called.

`known_weights.json` holds what their publishers say: OpenAI's download addresses carry the whole
hash, file names of torchvision and DeiT its first 8 digits, and Hugging Face lists each file's.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("known_weights.json")


@dataclass(frozen=True)
class KnownFile:
    """One public file. `sha256` is the whole hash, or as many of its first digits as are known."""

    name: str  # for a CLIP of OpenAI's, what `--weights` calls it
    file: str  # its name, with its folder's where the name alone says nothing
    what: str
    sha256: str
    source: str
    bytes: int | None = None

    def is_content(self, sha256: str) -> bool:
        """Whether a file of this hash is this one."""
        return sha256.startswith(self.sha256)

    def is_called(self, path: str | Path) -> bool:
        """Whether a file of this path goes by this one's name."""
        return Path(path).match(self.file)


@cache
def known_weights() -> tuple[KnownFile, ...]:
    """The list, in its order."""
    entries = json.loads(LIST.read_text(encoding="utf-8"))
    return tuple(KnownFile(**entry) for entry in entries)


def known_by_content(sha256: str) -> KnownFile | None:
    """The public file of this hash."""
    return next((each for each in known_weights() if each.is_content(sha256)), None)


def known_by_name(path: str | Path) -> KnownFile | None:
    """The public file that a file of this path claims to be."""
    return next((each for each in known_weights() if each.is_called(path)), None)
