"""Each run records itself: configuration, versions and commit once, metrics as JSON lines."""

import json
import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from engine.versions import commit, versions
from runtime.distributed import is_main_process
from runtime.files import atomic_write, naming


class Run:
    """A run's folder: `config.json`, `metrics.jsonl` (a line an epoch), the same as TensorBoard
    scalars in `tensorboard/`, and `checkpoint.pkl`.
    """

    def __init__(self, folder: Path, config: dict, name: str = ""):
        self.folder, self.config = folder, config
        self.name = name or folder.name
        self.checkpoint = folder / "checkpoint.pkl"
        self._metrics = folder / "metrics.jsonl"
        self._scalars: EventsWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)
        record = {"config": config, "versions": versions(), "commit": commit()}
        with atomic_write(folder / "config.json") as file:
            json.dump(record, file, indent=1, sort_keys=True)

    def log(self, epoch: int, metrics: dict[str, float]) -> None:
        """Appends one epoch's line, on the first rank."""
        if not is_main_process():
            return
        with naming(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch} | metrics) + "\n")
        with naming(self.folder / "tensorboard"):
            if self._scalars is None:
                self._scalars = self._events(epoch)
            for name, value in metrics.items():
                summary = scalar(name, value)
                self._scalars.write_event(Event(wall_time=time.time(), step=epoch, summary=summary))
            self._scalars.flush()

    def _events(self, epoch: int) -> EventsWriter:
        """A TensorBoard file; what an earlier run wrote from `epoch` on is superseded.

        Not tensorboardX's SummaryWriter: its thread ends where the clock goes back by weeks or the
        disk is full, and the run then waits for it for ever.
        """
        folder = self.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        suffix = f".{os.getpid()}"  # two starts within a second keep a file each
        events = EventsWriter(str(folder / "events"), suffix)
        started = SessionLog(status=SessionLog.START)
        events.write_event(Event(wall_time=time.time(), step=epoch, session_log=started))
        return events

    def lines(self) -> list[dict[str, float]]:
        """What `log` wrote, an entry an epoch."""
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text("utf-8").splitlines()]

    def last(self) -> dict[str, float]:
        """The newest line, without its epoch; empty where there is none."""
        newest = self.lines()[-1:] or [{}]
        return {name: value for name, value in newest[0].items() if name != "epoch"}

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self._scalars:
            with naming(self.folder / "tensorboard"):
                self._scalars.close()
            self._scalars = None

    def rewind(self, epoch: int) -> None:
        """Drops the lines of `epoch` and later: they belong to a run that was stopped before its
        checkpoint.
        """
        lines = []
        if epoch and self._metrics.exists():
            lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_write(self._metrics) as file:
            file.writelines(
                line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] < epoch
            )
