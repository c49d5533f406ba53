"""Each training run records itself: its configuration and versions once, its metrics per epoch."""

import json
import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from engine.versions import commit, versions
from runtime.distributed import is_main_process
from runtime.files import atomic_write, name_file_in_errors


class Run:
    """The folder of a run.

    It holds `config.json`, `metrics.jsonl` with one line per epoch, the same numbers as TensorBoard
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
        """Appends the line of one epoch. Only the main process writes."""
        if not is_main_process():
            return
        with (
            name_file_in_errors(self._metrics),
            self._metrics.open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps({"epoch": epoch} | metrics) + "\n")
        with name_file_in_errors(self.folder / "tensorboard"):
            if self._scalars is None:
                self._scalars = self._open_scalars(epoch)
            for name, value in metrics.items():
                summary = scalar(name, value)
                self._scalars.write_event(Event(wall_time=time.time(), step=epoch, summary=summary))
            self._scalars.flush()

    def _open_scalars(self, epoch: int) -> EventsWriter:
        """Opens a TensorBoard file, which replaces what an earlier run wrote from `epoch` on.

        It is not tensorboardX's SummaryWriter. The thread of that one ends if the clock goes back
        by weeks or the disk is full, and the run then waits for it forever.
        """
        folder = self.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        suffix = f".{os.getpid()}"  # two starts within a second get a file each
        events = EventsWriter(str(folder / "events"), suffix)
        started = SessionLog(status=SessionLog.START)
        events.write_event(Event(wall_time=time.time(), step=epoch, session_log=started))
        return events

    def lines(self) -> list[dict[str, float]]:
        """Returns what `log` wrote, one entry per epoch."""
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text("utf-8").splitlines()]

    def last(self) -> dict[str, float]:
        """Returns the newest line without its epoch, or {} if there is none."""
        lines = self.lines()
        if not lines:
            return {}
        return {name: value for name, value in lines[-1].items() if name != "epoch"}

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self._scalars:
            with name_file_in_errors(self.folder / "tensorboard"):
                self._scalars.close()
            self._scalars = None

    def rewind(self, epoch: int) -> None:
        """Drops the lines of `epoch` and later, and a line that was cut short.

        They belong to a run that was stopped before its checkpoint.
        """
        lines = []
        if epoch and self._metrics.exists():
            lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_write(self._metrics) as file:
            file.writelines(
                line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] < epoch
            )
