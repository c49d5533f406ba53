"""Benchmarks: this kit beside its peers, each in a process of its own, taking turns.

    python benchmarks/bench.py image --peers ../peers/bin/python
    python benchmarks/bench.py views

Prints a table and, as its last line, the same as JSON. Each way runs once to warm up and then
`repeats` times, in turn with all others; its time is the median. `ratio` is its time over that of
the first way, ours. `cosine` is the least of two rows of features, this way's and the
first's, where their weights are the same. `--peers` is the Python of an environment with
`benchmarks/bench_peers.txt` installed; without it only our own ways run. Threads are as the
environment
sets them (OMP_NUM_THREADS), one each core by default. Nothing else may run beside it.
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


@dataclass(frozen=True)
class Common:
    """What every benchmark takes."""

    in_turn: bool = True
    """peers by turns with ours; False: after ours has ended, where memory does not hold both"""
    repeats: int = 5
    """of each way"""
    peers: Path | None = None
    """Python of the peers' environment"""
    ways: tuple[str, ...] = ()
    """run only the ways that contain one of these words, beside the first"""


@dataclass(frozen=True)
class Encoding(Common):
    """What the benchmarks of the two towers take beside it."""

    stock: Path | None = None
    """a checkout of github.com/uyzhang/JCLIP, the public CLIP in Jittor"""

    def __post_init__(self):
        if self.stock and not (self.stock / "jclip/model.py").is_file():
            raise SystemExit(
                f"bench: {self.stock}: no checkout of JCLIP, jclip/model.py is missing"
            )


@dataclass(frozen=True)
class Image(Encoding):
    """Images to features, ViT-B/32, from arrays."""

    batch: int = 64
    """images a call"""


@dataclass(frozen=True)
class Text(Encoding):
    """The contest's 403 classes to text features."""

    sentences: int = 8
    """of each class"""


@dataclass(frozen=True)
class Lora(Common):
    """A training step of CLIP-LoRA, ViT-B/32, both towers."""

    batch: int = 32
    """images a step"""
    classes: int = 374
    """sentences a step"""


@dataclass(frozen=True)
class Head(Common):
    """LP++ on given features: seconds to fit, and the accuracy on held-out ones."""

    shots: int = 4
    """of each of 374 classes"""
    classes: int = 403
    """in all"""
    iterations: int = 300
    """updates"""


@dataclass(frozen=True)
class Mta(Common):
    """JPEG files to lines of a result, by MTA over views."""

    images: int = 16
    """files"""
    views: int = 64
    """of each"""


@dataclass(frozen=True)
class Views(Common):
    """Views of JPEG files: decoded once, against opened anew for every view."""

    images: int = 8
    """files"""
    views: int = 64
    """of each"""
    side: int = 224
    """of a view, in pixels"""


ITEMS = {  # what a second is counted in
    "image": lambda s: s["batch"],
    "text": lambda s: 403 * s["sentences"],
    "lora": lambda s: s["batch"],
    "head": lambda s: 1,
    "mta": lambda s: s["images"],
    "views": lambda s: s["images"],
}


class Worker:
    """A process that runs ways."""

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

    def run(self, way: str, place: Path | None = None) -> dict:
        """{"seconds", "peak_mb"} of one run; its result is saved at `place`."""
        print(json.dumps([way, place and str(place)]), file=self.stdin, flush=True)
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
    """Runs one benchmark and prints what it found."""
    name = type(options).__name__.lower()
    common = set(vars(Encoding()))
    settings = {key: value for key, value in vars(options).items() if key not in common}
    workers = [[sys.executable, "kit_ways"]]  # first: it writes the inputs
    stock = getattr(options, "stock", None)
    workers += [[sys.executable, "stock_ways", str(stock.absolute())]] if stock else []
    workers += [[str(options.peers.absolute()), "peer_ways"]] if options.peers else []
    groups = [workers] if options.in_turn else [[worker] for worker in workers]
    found: dict[str, dict] = {}
    with TemporaryDirectory() as folder:
        for group in groups:
            with ExitStack() as stack:
                ways: dict[str, Worker] = {}
                for program in group:
                    worker = Worker(program, name, settings, Path(folder))
                    stack.callback(worker.close)
                    ways |= dict.fromkeys(worker.ways, worker)
                first = next(iter(found or ways))
                wanted = {
                    w: p
                    for w, p in ways.items()
                    if not options.ways or w == first or any(word in w for word in options.ways)
                }
                found |= measured(wanted, options.repeats, Path(folder), compared=not found)
    return report(name, settings, ITEMS[name](settings), found)


def measured(
    ways: dict[str, Worker], repeats: int, folder: Path, compared: bool = True
) -> dict[str, dict]:
    """{way: seconds of every run but the first, peak_mb, cosine to the first way if `compared`}."""
    found: dict[str, dict[str, Any]] = {}
    reference = None
    for number, (way, worker) in enumerate(ways.items()):
        place = folder / f"result_{number}.npy"
        worker.run(way, place)
        result = np.load(place)
        reference = result if reference is None else reference
        alike = compared and worker is next(iter(ways.values()))  # the same weights
        found[way] = {"seconds": [], "cosine": least_cosine(reference, result) if alike else None}
        found[way]["same"] = alike and np.array_equal(reference, result)
        found[way]["result"] = float(result.ravel()[0]) if result.size == 1 else None
    for _ in range(repeats):
        for way, worker in ways.items():
            answer = worker.run(way)
            found[way]["seconds"].append(answer["seconds"])
            found[way]["peak_mb"] = answer["peak_mb"]
    return found


def least_cosine(first: np.ndarray, second: np.ndarray) -> float | None:
    """Of two rows in the same place, or None where the arrays are of another kind."""
    if first.shape != second.shape or first.ndim != 2 or first.dtype.kind != "f":
        return None
    a, b = first.astype(float), second.astype(float)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())


def report(name: str, settings: dict, items: int, found: dict[str, dict]) -> dict:
    """Prints a table, the first way being ours, and the JSON line; returns what that holds."""
    medians = {way: statistics.median(row["seconds"]) for way, row in found.items()}
    ours = next(iter(medians.values()))
    title = ", ".join(f"{key} {value}" for key, value in settings.items())
    print(f"{name}: {title}\n{'':<40}{'seconds':>10}{'a second':>10}{'ratio':>8}  cosine, MB")
    ways = {}
    for way, seconds in medians.items():
        row = found[way] | {"median": seconds, "per_s": items / seconds, "ratio": seconds / ours}
        ways[way] = row
        near = "" if row["cosine"] is None else f"{row['cosine']:.5f}"
        near = near if row["result"] is None else f"{row['result']:.4f}"
        print(
            f"{way:<40}{seconds:>10.3f}{row['per_s']:>10.2f}{row['ratio']:>8.2f}"
            f"  {near}, {row['peak_mb']:.0f}"
        )
    threads = os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
    line = {"benchmark": name, "settings": settings, "ways": ways, "cpu": cpu(), "threads": threads}
    print(json.dumps(line))
    return line


def cpu() -> str:
    """The processor's name and what it multiplies."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    parts = (line.partition(":") for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, _, value in parts}
    kinds = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    flags = [kind for kind in kinds if kind in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown')}, {' '.join(flags)}"


BENCHMARKS = {kind.__name__.lower(): kind for kind in (Image, Text, Lora, Head, Mta, Views)}
Choice = tyro.extras.subcommand_type_from_defaults({n: kind() for n, kind in BENCHMARKS.items()})

if __name__ == "__main__":
    main(tyro.cli(Choice, description=__doc__.splitlines()[0]))
