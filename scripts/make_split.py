"""Draws a few-shot list from a data set and writes it where the recipes look for it.

    python -m scripts.make_split --data Dataset --shots_per_class 4 --seed 1

The file has one JSON line per image. Track it with git, so that a result can be repeated.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from data.few_shot_dataset import open_dataset
from data.few_shot_splits import draw_split, find_short_classes, split_path, write_split
from engine.config import parse
from engine.session import exit_on_error
from runtime.files import printable


@dataclass(frozen=True)
class Config:
    """Draws a few-shot list from a data set."""

    data: Path = Path("Dataset")
    """contest tree, folder with one folder per class, or list of images"""
    shots_per_class: int = 4
    """images to draw per class"""
    seed: int = 1
    """seed of the draw"""
    out: Path | None = None
    """file to write; by default Dataset/splits/<name>_<shots>shot_seed<seed>.jsonl"""
    force: bool = False
    """replace a file that differs"""


def make(config: Config) -> None:
    """Draws and writes the list, and warns of classes with too few images."""
    dataset, shots = open_dataset(config.data), config.shots_per_class
    samples = draw_split(dataset, shots, config.seed)
    path = config.out or split_path(config.data, shots, config.seed)
    write_split(path, samples, dataset, config.force)
    for name, count in find_short_classes(dataset, shots).items():
        print(printable(f"warning: {name} has {count} of {shots} images"), file=sys.stderr)
    classes = len({sample.label for sample in samples})
    print(printable(f"make_split: {len(samples)} images of {classes} classes -> {path}"))


def main(arguments: list[str]) -> None:
    """Draws a few-shot list; a mistake ends with one line."""
    config = parse(Config, arguments, "make_split", flags=True)
    with exit_on_error("make_split"):
        make(config)


if __name__ == "__main__":
    main(sys.argv[1:])
