"""What two processes gain over one, and what their exchange of gradients costs.

    bash train.sh --demo
    python benchmarks/measure_ranks.py --counts 1 2

Every process has one thread. `train`: seconds an epoch of a ViT-Ti that learns 4 blocks from
noise, its batches in pieces; `exchange`: seconds an epoch of that in which gradients travel,
measured alone with as many numbers; `test`: seconds of `test.py` on the demo, from images to the
result. The gain is the first row's time over a row's. Nothing else may run beside it.
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

SIDE, CLASSES, IMAGES, BATCH, PIECES = 64, 4, 1024, 64, 4
DEMO = ROOT / "runs/demo"


@dataclass(frozen=True)
class Config:
    """Processes against one."""

    counts: tuple[int, ...] = (1, 2)
    """processes of each row"""
    epochs: int = 4
    """of training; the first, which may compile, does not count"""
    views: int = 64
    """of each test image"""
    exchange: int = 0
    """used by the tool itself: times the exchange of so many numbers, in every process"""


def mpirun(count: int, *words: object) -> tuple[float, str]:
    """(seconds, output) of `python words...` in `count` processes of one thread."""
    command = ["mpirun", "-np", str(count), "--bind-to", "none", "--allow-run-as-root"]
    command += [sys.executable, *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"measure_ranks: {' '.join(command)} failed\n{done.stderr}")
    return time.monotonic() - started, done.stdout


def make_images(root: Path) -> None:
    """Folders of noise, as `--dataset folder` reads them."""
    random = np.random.default_rng(0)
    for part, count in (("train", IMAGES // CLASSES), ("test", 1)):
        for name in "abcdefgh"[:CLASSES]:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


def train_s(config: Config, count: int, root: Path, out: Path) -> tuple[float, int]:
    """(seconds an epoch, numbers that learn)."""
    words = ["train.py", "caltech_finetune", "--dataset", "folder", "--root", root, "--out", out]
    words += ["--network", "vit_tiny", "--image_size", SIDE, "--unfreeze", "last 4 blocks"]
    words += ["--grad_accum", PIECES, "--batch_size", BATCH, "--val_share", 0.05]
    _, said = mpirun(count, *words, "--epochs", config.epochs)
    lines = [line for line in said.splitlines() if " epoch " in line]
    seconds = [float(line.rsplit(", ", 1)[1].removesuffix(" s")) for line in lines]
    result = json.loads((out / "vit_tiny/result.json").read_text())["result"]
    return float(np.median(seconds[1:])), result["trained"]


def exchange(numbers: int) -> None:
    """Prints the seconds in which this process's pieces of so many numbers reach all."""
    import runtime  # noqa: F401  (before jittor)
    from engine.micro_batches import MicroBatches
    from runtime.distributed import all_gather, is_main_process, silence_other_ranks

    silence_other_ranks()
    pieces, times = MicroBatches(PIECES), []
    own = np.zeros((len(pieces.local), numbers), np.float32)
    for _ in range(12):
        started = time.perf_counter()
        all_gather(own, pieces.count, pieces.local.start)
        times.append(time.perf_counter() - started)
    if is_main_process():
        print(f"exchange {np.median(times[2:])}", flush=True)


def main(config: Config) -> None:
    """Prints a row for each number of processes."""
    if config.exchange:
        exchange(config.exchange)
        return
    steps = int(IMAGES * 0.95) // BATCH
    print(f"{'processes':>9}{'train':>9}{'gain':>7}{'exchange':>10}{'test':>9}{'gain':>7}")
    base: tuple[float, float] | None = None
    with TemporaryDirectory() as name:
        make_images(Path(name) / "images")
        for count in config.counts:
            folder = Path(name) / str(count)
            train, numbers = train_s(config, count, Path(name) / "images", folder / "train")
            said = mpirun(count, "benchmarks/measure_ranks.py", "--exchange", numbers)[1]
            sent = steps * float(said.split("exchange ")[1])
            words = ["test.py", "--data", "Dataset/demo", "--weights", DEMO / "ViT-B-32.pkl"]
            words += ["--auxiliary", DEMO / "auxiliary.pkl", "--parts", DEMO / "test_pkl"]
            words += ["--out", folder / "test", "--cache", folder / "cache", "--report", "False"]
            test, _ = mpirun(count, *words, "--views", config.views)
            base = base or (train, test)
            print(
                f"{count:>9}{train:>9.2f}{base[0] / train:>7.2f}{sent:>10.3f}"
                f"{test:>9.1f}{base[1] / test:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__.splitlines()[0]))
