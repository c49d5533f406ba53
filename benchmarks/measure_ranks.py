"""Measures what several processes gain over one, and what their exchange of gradients costs.

    bash train.sh --demo
    python benchmarks/measure_ranks.py --counts 1 2

Every process has one thread. The columns:
train     seconds per epoch of a ViT-Ti that trains 4 blocks on noise, its batches in micro-batches
exchange  seconds per epoch in which gradients travel, measured alone with as many numbers
test      seconds of `test.py` on the demo, from images to the result
gain      the first row's time divided by this row's

Nothing else may run at the same time.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np
import tyro
from PIL import Image

from runtime.paths import ROOT
from runtime.table import table

SIDE, CLASSES, IMAGES, BATCH, MICRO_BATCHES = 64, 4, 1024, 64, 4
DEMO = ROOT / "runs/demo"


@dataclass(frozen=True)
class Config:
    """The gain of several processes over one."""

    counts: tuple[int, ...] = (1, 2)
    """numbers of processes, one row each"""
    epochs: int = 4
    """epochs of training; the first may compile and does not count"""
    views: int = 64
    """views per test image"""
    exchange: int = 0
    """numbers to exchange; the command uses this field itself, in every process"""


def mpirun(count: int, *words: object) -> tuple[float, str]:
    """Runs `python words...` in `count` processes of one thread; returns (seconds, output)."""
    command = ["mpirun", "-np", str(count), "--bind-to", "none", "--allow-run-as-root"]
    command += [sys.executable, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"measure_ranks: {' '.join(command)} failed\n{done.stderr}")
    return time.monotonic() - started, done.stdout


def make_images(root: Path) -> None:
    """Writes images of noise into the folders that `--dataset folder` reads."""
    random = np.random.default_rng(0)
    for part, count in (("train", IMAGES // CLASSES), ("test", 1)):
        for name in "abcdefgh"[:CLASSES]:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


def train(config: Config, count: int, root: Path, out: Path) -> tuple[float, int]:
    """Returns the seconds per epoch and the number of trained parameters."""
    words = ["train.py", "caltech_finetune", "--dataset", "folder", "--root", root, "--out", out]
    words += ["--network", "vit_tiny", "--image_size", SIDE, "--unfreeze", "last 4 blocks"]
    words += ["--grad_accum", MICRO_BATCHES, "--batch_size", BATCH, "--val_share", 0.05]
    _, output = mpirun(count, *words, "--epochs", config.epochs)
    lines = [line for line in output.splitlines() if " epoch " in line]
    seconds = [float(line.rsplit(", ", 1)[1].removesuffix(" s")) for line in lines]
    result = json.loads((out / "vit_tiny/result.json").read_text())["result"]
    return float(np.median(seconds[1:])), result["trained"]


def exchange(numbers: int) -> None:
    """Prints the seconds in which this process's share of so many numbers reaches all others."""
    import runtime  # noqa: F401  (prepares Jittor before its first import)
    from engine.micro_batches import MicroBatches
    from runtime.distributed import all_gather, is_main_process, silence_other_ranks

    silence_other_ranks()
    micro_batches, times = MicroBatches(MICRO_BATCHES), []
    own = micro_batches.local
    gradients = np.zeros((len(own), numbers), np.float32)
    for _ in range(12):
        started = time.perf_counter()
        all_gather(gradients, micro_batches.count, own.start)
        times.append(time.perf_counter() - started)
    if is_main_process():
        print(f"exchange {np.median(times[2:])}", flush=True)


def main(config: Config) -> None:
    """Prints one row per number of processes."""
    if config.exchange:
        exchange(config.exchange)
        return
    steps = int(IMAGES * 0.95) // BATCH
    rows: list[tuple[int, float, float, float]] = []  # processes, train, exchange, test
    with TemporaryDirectory() as name:
        make_images(Path(name) / "images")
        for count in config.counts:
            folder = Path(name) / str(count)
            train_s, parameters = train(config, count, Path(name) / "images", folder / "train")
            output = mpirun(count, "-m", "benchmarks.measure_ranks", "--exchange", parameters)[1]
            exchange_s = steps * float(output.split("exchange ")[1])
            words = ["test.py", "--data", "Dataset/demo", "--weights", DEMO / "ViT-B-32.pkl"]
            words += ["--auxiliary", DEMO / "auxiliary.pkl", "--parts", DEMO / "test_pkl"]
            words += ["--out", folder / "test", "--cache", folder / "cache", "--report", "False"]
            test_s, _ = mpirun(count, *words, "--views", config.views)
            rows.append((count, train_s, exchange_s, test_s))
    _, first_train, _, first_test = rows[0]
    cells: list[list] = [
        [count, train_s, first_train / train_s, f"{exchange_s:.3f}", test_s, first_test / test_s]
        for count, train_s, exchange_s, test_s in rows
    ]
    print(table(cells, ["processes", "train", "gain", "exchange", "test", "gain"]))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__.splitlines()[0]))
