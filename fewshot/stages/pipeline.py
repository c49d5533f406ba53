"""The stages of a training: run one after the other, kept as long as their inputs do not change.

A stage is known by the hash of its inputs and of the stages it needs. The part that it makes is
stored under that key, next to pipeline.json, the record of what was made from what.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import checkpoint
from engine.plain_data import to_plain
from engine.run_log import Run
from fewshot.stages.parts import Part, part_path, read_part
from fewshot.stages.record import Origin, StageRecord, origin_of, read_record, write_record
from runtime.distributed import barrier, is_main_process
from runtime.signals import check_stop
from weight_files import safe_load
from weight_files.hashing import sha256_of
from weight_files.reader import count_parameters


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    `make` is called with the parts that `needs` names, as keyword arguments, and returns a part of
    type `kind`. A stage that trains in epochs also gets `run`, for its metrics and checkpoint.
    """

    name: str
    kind: type[Part]
    inputs: dict  # plain data, hashes for files: all that the part depends on besides `needs`
    make: Callable[..., Part]
    needs: tuple[str, ...] = ()
    has_run: bool = False


class Pipeline:
    """Runs stages in their order; writes `folder`/<stage>.pkl, and `runs`/<stage>/ meanwhile."""

    def __init__(self, recipe: str, stages: Sequence[Stage], folder: Path, runs: Path):
        self.recipe, self.folder, self.runs = recipe, folder, runs
        self.stages = {stage.name: stage for stage in stages}

    def key(self, name: str) -> str:
        """Returns the hash of everything that a stage's part follows from."""
        stage = self.stages[name]
        made_from = {"inputs": stage.inputs, "needs": self._keys_of_needs(stage)}
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    def run(self, *, until: str = "", only: str = "", fresh: bool = False) -> dict[str, Part]:
        """Runs all stages, those up to `until`, or `only` one; `fresh` makes them again.

        Returns their parts by stage. Raises ValueError for an unknown stage, and if `only` needs a
        part that is missing or was made from other inputs.
        """
        for name in filter(None, (until, only)):
            if name not in self.stages:
                raise ValueError(f"{name!r} is no stage; there are {', '.join(self.stages)}")
        if until and only:
            raise ValueError("until and only exclude each other: name one stage")
        names, parts = list(self.stages), {}
        if until:
            names = names[: names.index(until) + 1]
        if only:
            names = [only]
            parts = {need: self._read_needed(need, only) for need in self.stages[only].needs}
        for name in names:
            parts[name] = self._run_stage(name, parts, fresh)
        return parts

    def _run_stage(self, name: str, parts: dict[str, Part], fresh: bool) -> Part:
        check_stop()
        stage, path = self.stages[name], part_path(self.folder, name)
        stored = None if fresh else self._read_current(name)
        if stored is not None:
            recorded = read_record(self.folder).get(name)
            if recorded is None or recorded.key != self.key(name):
                self._record(name, None)  # the run was stopped between the part and its record
            print(f"{name}: unchanged, kept {path}", flush=True)
            return stored
        started = time.monotonic()
        arguments: dict = {need: parts[need] for need in stage.needs}
        if stage.has_run:
            arguments["run"] = self._open_run(name, fresh)
        part = stage.make(**arguments)
        checkpoint.save(path, {"meta": to_plain(self._origin(name)), "part": to_plain(part)})
        barrier()
        seconds = time.monotonic() - started
        self._record(name, round(seconds, 2))
        print(f"{name}: wrote {path} in {seconds:.1f} s", flush=True)
        return part

    def _open_run(self, name: str, fresh: bool) -> Run:
        """Opens a stage's run; `fresh` deletes the checkpoint of one that was stopped."""
        run = Run(self.runs / name, {"stage": name, "key": self.key(name)})
        if fresh and is_main_process():
            run.checkpoint.unlink(missing_ok=True)
        barrier()
        return run

    def _read_current(self, name: str) -> Part | None:
        """Reads a stage's part; None if there is none or it was made from other inputs."""
        path = part_path(self.folder, name)
        if not path.exists():
            return None
        contents = safe_load(path)
        try:
            current = origin_of(contents, path).key == self.key(name)
        except ValueError:
            current = False  # written by another version of the kit
        if not current:
            return None
        part, _ = read_part(path, name, self.stages[name].kind)
        return part

    def _read_needed(self, name: str, by: str) -> Part:
        part = self._read_current(name)
        if part is None:
            raise ValueError(
                f"{by} needs {part_path(self.folder, name)}, which is missing or was made from "
                "other inputs: run without --only"
            )
        return part

    def _keys_of_needs(self, stage: Stage) -> dict[str, str]:
        return {need: self.key(need) for need in stage.needs}

    def _origin(self, name: str) -> Origin:
        stage = self.stages[name]
        needs = self._keys_of_needs(stage)
        return Origin(self.recipe, name, self.key(name), stage.inputs, needs)

    def _record(self, name: str, seconds: float | None) -> None:
        """Records a stage in pipeline.json, with its seconds if they are known."""
        path, records = part_path(self.folder, name), read_record(self.folder)
        records[name] = StageRecord(
            **vars(self._origin(name)),
            output=path.name,
            sha256=sha256_of(path),
            numbers=count_parameters(safe_load(path)),
            seconds=seconds,
        )
        write_record(self.folder, [records[stage] for stage in self.stages if stage in records])
