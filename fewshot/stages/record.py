"""What each stage was made from: the origin in each part's file, and pipeline.json next to them.

Needs no Jittor, so that an audit can read both on any machine.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.plain_data import from_plain, to_plain
from runtime.files import atomic_write

TRAINING = "recipes.clip_fewshot"  # every part depends on the code of this module
RECORD = "pipeline.json"
RETRAIN = "run `bash train.sh` again"
OLD_RECORD = "schedule.json"  # the name of RECORD in version 0.1


@dataclass(frozen=True)
class Origin:
    """Everything that a part was made from."""

    recipe: str
    stage: str
    key: str  # the hash of everything that the part follows from
    inputs: dict[str, Any]  # plain data, hashes for files
    needs: dict[str, str]  # the keys of the parts that it was made from, by stage


@dataclass(frozen=True)
class StageRecord(Origin):
    """The origin of a part, and what the stage wrote."""

    output: str  # name of the part's file
    sha256: str  # of that file
    numbers: int  # how many floating-point numbers it holds
    seconds: float | None  # None if the stage was stopped before it could note them


def record_path(folder: Path) -> Path:
    """Returns the record of a folder of parts, by its old name if only that one is there."""
    old = folder / OLD_RECORD
    return old if old.is_file() and not (folder / RECORD).is_file() else folder / RECORD


def read_record(folder: Path) -> dict[str, StageRecord]:
    """Returns the stages of a folder of parts by name, in their order; empty without a record.

    Raises ValueError naming a record that cannot be read.
    """
    path = record_path(folder)
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); delete it") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: is no list of stages; delete it")
    records = [from_plain(StageRecord, entry, str(path), "delete it") for entry in entries]
    return {record.stage: record for record in records}


def write_record(folder: Path, records: Iterable[StageRecord]) -> None:
    """Writes the record of a folder of parts, whole or not at all."""
    with atomic_write(folder / RECORD) as file:
        json.dump([to_plain(record) for record in records], file, indent=1, sort_keys=True)
        file.write("\n")


def origin_of(contents: dict, source: Path) -> Origin:
    """Returns the origin in the contents of a part's file.

    Raises ValueError naming `source` if there is none.
    """
    return from_plain(Origin, contents.get("meta"), str(source), RETRAIN)
