"""Stages: each makes one file of trained parts from stated inputs, and is skipped while those do
not change.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewshot import checkpoint
from runtime import safe_load


@dataclass(frozen=True)
class Stage:
    """`make()` returns NumPy arrays and plain data; they are stored in `output` beside what they
    were made from.
    """

    name: str
    output: Path
    inputs: dict  # plain data, hashes for files: everything that the result depends on
    make: Callable[[], dict]

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.inputs, sort_keys=True).encode()).hexdigest()

    def run(self, *, fresh: bool = False) -> dict:
        """The stage's contents: read back where they were made from the same inputs, else made and
        stored.
        """
        if self.output.exists() and not fresh:
            stored = safe_load(self.output)
            if stored.get("meta", {}).get("key") == self.key:
                print(f"{self.name}: unchanged, kept {self.output}", flush=True)
                return stored
        started = time.monotonic()
        contents = {
            "meta": {"stage": self.name, "key": self.key, "inputs": self.inputs}
        } | self.make()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.output, contents)
        print(f"{self.name}: wrote {self.output} in {time.monotonic() - started:.1f} s", flush=True)
        return contents


def read_part(path: Path, stage: str) -> dict:
    """A stored part. Raises ValueError where the file is missing or of another stage."""
    if not path.exists():
        raise ValueError(
            f"{path} is missing: run `bash train.sh` first, or put the trained parts there"
        )
    contents = safe_load(path)
    found = contents.get("meta", {}).get("stage")
    if found != stage:
        raise ValueError(
            f"{path}: holds {found or 'no stage of this kit'}, but {stage!r} is needed"
        )
    return contents
