"""The staged schedule as data: an ordered list of stages, each of which makes one file of trained
parts from stated inputs and from the parts before it, and is skipped while those do not change.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import checkpoint
from runtime.distributed import barrier
from runtime.files import atomic_write
from runtime.signals import check_stop
from weight_files import safe_load
from weight_files.hashing import sha256_of
from weight_files.reader import count_numbers

Parts = dict[str, dict]  # contents of the trained parts by the name of their stage


@dataclass(frozen=True)
class Stage:
    """`make(parts)` gets the parts that `needs` names and returns NumPy arrays and plain data."""

    name: str
    inputs: dict  # plain data, hashes for files: all that the result depends on beside `needs`
    make: Callable[[Parts], dict]
    needs: tuple[str, ...] = ()


class Pipeline:
    """Runs stages in their order; a part lies in `folder`/<stage>.pkl, beside `schedule.json`."""

    def __init__(self, recipe: str, stages: Sequence[Stage], folder: Path):
        self.recipe, self.folder = recipe, folder
        self.stages = {stage.name: stage for stage in stages}
        self.record = folder / "schedule.json"

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.pkl"

    def key(self, name: str) -> str:
        """The hash of everything that a stage's part follows from."""
        stage = self.stages[name]
        made_from = {"inputs": stage.inputs, "needs": {n: self.key(n) for n in stage.needs}}
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def run(self, *, until: str = "", only: str = "", fresh: bool = False) -> Parts:
        """Runs all stages, those up to `until`, or `only` one; `fresh` makes them again.

        Returns their parts. Raises ValueError for a name that is no stage, and where `only` needs
        a part that is not there or was made from other inputs.
        """
        for name in filter(None, (until, only)):
            if name not in self.stages:
                raise ValueError(f"{name!r} is no stage; there are {', '.join(self.stages)}")
        if until and only:
            raise ValueError("until and only exclude each other: name one stage")
        names = list(self.stages)
        if until:
            names = names[: names.index(until) + 1]
        if only:
            names = [only]
            parts = {name: self._needed(name, only) for name in self.stages[only].needs}
        else:
            parts = {}
        for name in names:
            parts[name] = self._run(name, parts, fresh)
        return parts

    def _needed(self, name: str, by: str) -> dict:
        part = self._stored(name)
        if part is None:
            raise ValueError(
                f"{by} needs {self.path(name)}, which is missing or was made from other inputs: "
                "run without --only"
            )
        return part

    def _stored(self, name: str) -> dict | None:
        """A stage's part where it was made from the same inputs."""
        if not self.path(name).exists():
            return None
        contents = safe_load(self.path(name))
        return contents if contents.get("meta", {}).get("key") == self.key(name) else None

    def _run(self, name: str, parts: Parts, fresh: bool) -> dict:
        check_stop()
        stage, path = self.stages[name], self.path(name)
        stored = None if fresh else self._stored(name)
        if stored is not None:
            if read_record(self.folder).get(name, {}).get("key") != self.key(name):
                self._note(stored, None)  # it was stopped between the part and its note
            print(f"{name}: unchanged, kept {path}", flush=True)
            return stored
        started = time.monotonic()
        needs = {need: self.key(need) for need in stage.needs}
        meta: dict[str, Any] = {"recipe": self.recipe, "stage": name}
        meta |= {"key": self.key(name), "inputs": stage.inputs, "needs": needs}
        contents = {"meta": meta} | stage.make({need: parts[need] for need in stage.needs})
        checkpoint.save(path, contents)
        barrier()
        seconds = time.monotonic() - started
        self._note(contents, seconds)
        print(f"{name}: wrote {path} in {seconds:.1f} s", flush=True)
        return contents

    def _note(self, contents: dict, seconds: float | None) -> None:
        """Adds a stage to schedule.json, with its seconds since it was last started, if known."""
        name = contents["meta"]["stage"]
        noted = read_record(self.folder)
        noted[name] = contents["meta"] | {
            "output": self.path(name).name,
            "sha256": sha256_of(self.path(name)),
            "numbers": count_numbers(contents),
            "seconds": seconds and round(seconds, 2),
        }
        ordered = [noted[stage] for stage in self.stages if stage in noted]
        with atomic_write(self.record) as file:
            json.dump(ordered, file, indent=1, sort_keys=True)
            file.write("\n")


def read_record(folder: Path) -> dict[str, dict]:
    """schedule.json of a folder of parts by stage; empty where there is none."""
    try:
        entries = json.loads((folder / "schedule.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {entry["stage"]: entry for entry in entries}


def read_parts(folder: Path, stages: Sequence[str]) -> Parts:
    """The stored parts of these stages. Raises ValueError where one is missing, is of another
    stage, or was made from another part than the one that lies there.
    """
    parts: Parts = {}
    for stage in stages:
        path = folder / f"{stage}.pkl"
        if not path.exists():
            raise ValueError(
                f"{path} is missing: run `bash train.sh` first, or put the trained parts there"
            )
        parts[stage] = safe_load(path)
        meta = parts[stage].get("meta", {})
        found = meta.get("stage", "no stage of this kit")
        if found != stage:
            raise ValueError(f"{path}: holds {found}, but {stage!r} is needed")
        for need, key in meta.get("needs", {}).items():
            if need in parts and parts[need]["meta"]["key"] != key:
                raise ValueError(
                    f"{path} was made with another {need}.pkl than {folder / need}.pkl: "
                    "run `bash train.sh` again"
                )
    return parts
