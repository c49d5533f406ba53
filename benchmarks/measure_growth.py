"""Measures how time, memory and disk grow with the number of test images.

    bash train.sh --demo
    python benchmarks/measure_growth.py --counts 1000 10000 100000

Runs `test.py` on images of noise, 16 x 16 pixels each. Weights and parts are the demo's, so
everything but the network is as large as in the contest. The table has one row per count.
"""

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

SIDE = 16  # pixels


@dataclass(frozen=True)
class Config:
    """The growth of a test run."""

    counts: tuple[int, ...] = (1000, 10_000)
    """numbers of test images, one run each"""
    views: int = 1
    """views per image"""
    data: Path = Path("Dataset/demo")
    """data that the parts were trained on"""
    weights: Path = Path("runs/demo/ViT-B-32.pkl")
    """CLIP weight file"""
    auxiliary: Path = Path("runs/demo/auxiliary.pkl")
    """weight file of the auxiliary encoder"""
    parts: Path = Path("runs/demo/test_pkl")
    """folder of the trained parts"""


def make_images(folder: Path, count: int) -> None:
    """Writes `count` different images of noise; every call writes the same ones."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:07d}.png", compress_level=1)


def run(config: Config, count: int) -> list[str]:
    """Returns the table's row of one test run on `count` images."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "images", count)
        command = [sys.executable, "test.py", "--images", folder / "images", "--report", "False"]
        command += ["--out", folder / "out", "--cache", folder / "cache"]
        for field in ("views", "data", "weights", "auxiliary", "parts"):
            value = getattr(config, field)
            command += [f"--{field}", value.absolute() if isinstance(value, Path) else value]
        started = time.monotonic()
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status  # Popen itself has not waited
        seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"measure_growth: test.py ended with status {status}")
        written = [path for part in ("out", "cache") for path in (folder / part).rglob("*")]
        disk_kb = sum(path.stat().st_size for path in written if path.is_file()) / 1024
    milliseconds, peak_mb = seconds / count * 1000, usage.ru_maxrss / 1024
    figures = [f"{seconds:.1f}", f"{milliseconds:.2f}", f"{peak_mb:.0f}", f"{disk_kb / count:.2f}"]
    return [str(count), *figures]


def main(config: Config) -> None:
    """Prints the table."""
    header = ["images", "seconds", "ms per image", "peak MB", "disk kB per image"]
    print(table([run(config, count) for count in config.counts], header))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__.splitlines()[0]))
