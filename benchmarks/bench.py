"""Benchmarks this kit next to its peers.

    python benchmarks/bench.py image --peers ../peers/bin/python
    python benchmarks/bench.py views

Each side runs in a process of its own, and all ways take turns. The command prints a table and, as
its last line, the same as JSON. Each way runs once to warm up and then `repeats` times; its time is
the median. `ratio` is its time divided by that of the first way, which is the kit's. `cosine` is
the smallest cosine between a row of this way's features and the same row of the first way's; it is
given if both have the same weights.

`--peers` names the Python of an environment with `benchmarks/requirements-peers.txt` installed;
without it only the kit's own ways run. OMP_NUM_THREADS sets the threads, by default one per core.
Nothing else may run at the same time.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np
import tyro

from runtime.paths import ROOT
from runtime.table import table


@dataclass(frozen=True)
class Common:
    """The fields of every benchmark."""

    in_turn: bool = True
    """let all ways take turns; False runs the peers after the kit, if memory does not hold both"""
    repeats: int = 5
    """measured runs of each way"""
    peers: Path | None = None
    """Python of the peers' environment"""
    ways: tuple[str, ...] = ()
    """words, of which a way's name must contain one to be run; the first way always runs"""


@dataclass(frozen=True)
class Encoding(Common):
    """The fields of the benchmarks of the two towers."""

    stock: Path | None = None
    """a checkout of github.com/uyzhang/JCLIP, the public CLIP in Jittor"""

    def __post_init__(self):
        if self.stock and not (self.stock / "jclip/model.py").is_file():
            raise SystemExit(
                f"bench: {self.stock}: no checkout of JCLIP, jclip/model.py is missing"
            )


@dataclass(frozen=True)
class Image(Encoding):
    """From image arrays to features, by ViT-B/32."""

    batch: int = 64
    """images per call"""


@dataclass(frozen=True)
class Text(Encoding):
    """From the sentences of the contest's 403 classes to text features."""

    sentences: int = 8
    """sentences per class"""


@dataclass(frozen=True)
class Lora(Common):
    """A training step of CLIP-LoRA on both towers of ViT-B/32."""

    batch: int = 32
    """images per step"""
    classes: int = 374
    """sentences per step, one for each class"""


@dataclass(frozen=True)
class Head(Common):
    """The fit of LP++ on random features, and its accuracy on other features."""

    shots: int = 4
    """training features per class, for 374 classes"""
    classes: int = 403
    """classes with a text feature"""
    iterations: int = 300
    """updates of LP++"""


@dataclass(frozen=True)
class Mta(Common):
    """From JPEG files to the lines of a result, by MTA over views."""

    images: int = 16
    """JPEG files"""
    views: int = 64
    """views per image"""


@dataclass(frozen=True)
class Views(Common):
    """Views of JPEG files that are decoded once, or opened again for every view."""

    images: int = 8
    """JPEG files"""
    views: int = 64
    """views per image"""
    side: int = 224
    """height and width of a view in pixels"""


ITEMS = {  # how many items a run handles, for the column "per second"
    "image": lambda s: s["batch"],
    "text": lambda s: 403 * s["sentences"],
    "lora": lambda s: s["batch"],
    "head": lambda s: 1,
    "mta": lambda s: s["images"],
    "views": lambda s: s["images"],
}


class Worker:
    """A process that runs ways; its other side is `benchmarks.worker.serve`."""

    def __init__(self, program: list[str], name: str, settings: dict, folder: Path):
        python, module, *more = program
        command = [python, "-m", f"benchmarks.{module}", name, json.dumps(settings), str(folder)]
        self.process = subprocess.Popen(
            [*command, *more], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin and self.process.stdout  # both are pipes
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        try:
            self.ways = self._answer()
        except SystemExit:
            self.close()
            raise

    def run(self, way: str, save_to: Path | None = None) -> dict:
        """Runs a way once and returns {"seconds", "peak_mb"}; saves its result if asked to."""
        print(json.dumps([way, save_to and str(save_to)]), file=self.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        self.stdin.close()
        self.stdout.close()
        self.process.wait()

    def _answer(self):
        line = self.stdout.readline()
        if not line:
            raise SystemExit(f"bench: a worker ended: {' '.join(self.process.args[:3])}")
        return json.loads(line)


def main(options: Common) -> dict:
    """Runs one benchmark, prints its table and its JSON line, and returns what the line holds."""
    name = type(options).__name__.lower()
    common = set(vars(Encoding()))
    settings = {key: value for key, value in vars(options).items() if key not in common}
    programs = [[sys.executable, "kit_ways"]]  # first: it writes the inputs
    if stock := getattr(options, "stock", None):
        programs.append([sys.executable, "stock_ways", str(stock.absolute())])
    if options.peers:
        programs.append([str(options.peers.absolute()), "peer_ways"])
    groups = [programs] if options.in_turn else [[program] for program in programs]
    rows: dict[str, dict] = {}
    with TemporaryDirectory() as folder:
        for group in groups:
            with ExitStack() as stack:
                workers: dict[str, Worker] = {}
                for program in group:
                    worker = Worker(program, name, settings, Path(folder))
                    stack.callback(worker.close)
                    workers |= dict.fromkeys(worker.ways, worker)
                first = next(iter(rows or workers))
                chosen = {
                    way: worker
                    for way, worker in workers.items()
                    if not options.ways or way == first or any(word in way for word in options.ways)
                }
                rows |= measure(chosen, options.repeats, Path(folder), compared=not rows)
    return report(name, settings, ITEMS[name](settings), rows)


def measure(
    workers: dict[str, Worker], repeats: int, folder: Path, compared: bool = True
) -> dict[str, dict]:
    """Returns {way: row}, with the seconds of every run but the first and the peak memory in MB.

    If `compared`, a way of the first way's worker also gets its cosine to the first way.
    """
    rows: dict[str, dict[str, Any]] = {}
    reference = None
    for number, (way, worker) in enumerate(workers.items()):
        path = folder / f"result_{number}.npy"
        worker.run(way, path)
        result = np.load(path)
        reference = result if reference is None else reference
        same_weights = compared and worker is next(iter(workers.values()))
        rows[way] = {
            "seconds": [],
            "cosine": least_cosine(reference, result) if same_weights else None,
            "same": same_weights and np.array_equal(reference, result),
            "result": float(result.ravel()[0]) if result.size == 1 else None,
        }
    for _ in range(repeats):
        for way, worker in workers.items():
            answer = worker.run(way)
            rows[way]["seconds"].append(answer["seconds"])
            rows[way]["peak_mb"] = answer["peak_mb"]
    return rows


def least_cosine(first: np.ndarray, second: np.ndarray) -> float | None:
    """Returns the smallest cosine between rows at the same place of two matrices of features.

    Returns None if the arrays are no such matrices or differ in shape.
    """
    if first.shape != second.shape or first.ndim != 2 or first.dtype.kind != "f":
        return None
    a, b = first.astype(float), second.astype(float)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def report(name: str, settings: dict, items: int, rows: dict[str, dict]) -> dict:
    """Prints a table and the JSON line; returns what the line holds. The first way is the kit's."""
    medians = {way: statistics.median(row["seconds"]) for way, row in rows.items()}
    reference = next(iter(medians.values()))
    ways = {
        way: rows[way] | {"median": seconds, "per_s": items / seconds, "ratio": seconds / reference}
        for way, seconds in medians.items()
    }
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in settings.items())}")
    header = ["", "seconds", "per second", "ratio", "cosine", "result", "MB"]
    print(table([table_row(way, row) for way, row in ways.items()], header))
    threads = os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
    line = {"benchmark": name, "settings": settings, "ways": ways, "cpu": cpu(), "threads": threads}
    print(json.dumps(line))
    return line


def table_row(way: str, row: dict) -> list[str | float | None]:
    """Returns a way's cells in the printed table."""
    cosine, result = (
        None if row[key] is None else f"{row[key]:.{digits}f}"
        for key, digits in (("cosine", 5), ("result", 4))
    )
    peak = f"{row['peak_mb']:.0f}"
    return [way, f"{row['median']:.3f}", row["per_s"], row["ratio"], cosine, result, peak]


def cpu() -> str:
    """Returns the processor's name and the instruction sets that matter here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    parts = (line.partition(":") for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, _, value in parts}
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    flags = [flag for flag in wanted if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown')}, {' '.join(flags)}"


BENCHMARKS = {kind.__name__.lower(): kind for kind in (Image, Text, Lora, Head, Mta, Views)}
Choice = tyro.extras.subcommand_type_from_defaults({n: kind() for n, kind in BENCHMARKS.items()})

if __name__ == "__main__":
    main(tyro.cli(Choice, description=__doc__.splitlines()[0]))
