"""How time, memory and disk grow with the number of test images: runs `test.py` on synthetic ones.

    bash train.sh --demo
    python benchmarks/measure_growth.py --counts 1000 10000 100000

The images are noise, 16 pixels a side, each another one; weights and parts are the demo's, so that
everything but the network is as large as in a contest. Prints a row for each count.
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

SIDE = 16  # pixels


@dataclass(frozen=True)
class Config:
    """Growth of a test run."""

    counts: tuple[int, ...] = (1000, 10_000)
    """test images of each run"""
    views: int = 1
    """of each image"""
    data: Path = Path("Dataset/demo")
    """data that the parts were trained on"""
    weights: Path = Path("runs/demo/ViT-B-32.pkl")
    """CLIP weight file"""
    auxiliary: Path = Path("runs/demo/auxiliary.pkl")
    """second encoder"""
    parts: Path = Path("runs/demo/test_pkl")
    """trained parts"""


def make_images(folder: Path, count: int) -> None:
    """`count` images of noise, the same ones each time."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:07d}.png", compress_level=1)


def run(config: Config, count: int) -> dict[str, float]:
    """{seconds, peak_mb, disk_kb of an image} of one test run on `count` images."""
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
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status  # Popen itself has not waited
        seconds = time.monotonic() - started
        if status:
            raise SystemExit(f"measure_growth: test.py ended with status {status}")
        made = [path for part in ("out", "cache") for path in (folder / part).rglob("*")]
        disk = sum(path.stat().st_size for path in made if path.is_file())
    return {"seconds": seconds, "peak_mb": used.ru_maxrss / 1024, "disk_kb": disk / count / 1024}


def main(config: Config) -> None:
    """Prints the table."""
    print(f"{'images':>9}{'seconds':>10}{'ms an image':>13}{'peak MB':>9}{'disk kB an image':>18}")
    for count in config.counts:
        row = run(config, count)
        each = row["seconds"] / count * 1000
        print(
            f"{count:>9}{row['seconds']:>10.1f}{each:>13.2f}{row['peak_mb']:>9.0f}"
            f"{row['disk_kb']:>18.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__.splitlines()[0]))
