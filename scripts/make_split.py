"""Draws a few-shot split of a data set and writes it where the recipes look for it.

    python -m scripts.make_split --data Dataset --shots 4 --seed 1

The file is one JSON line an image; track it with git, so that a result can be made again.
"""

import argparse
import sys
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from data.few_shot_dataset import open_dataset
from data.few_shot_splits import draw_split, find_short_classes, split_path, write_split
from runtime.files import printable


def make(data: Path, shots: int, seed: int, out: Path | None, force: bool) -> None:
    """Draws, writes and says what was written; warns of classes with too few images."""
    tree = open_dataset(data)
    items = draw_split(tree, shots, seed)
    path = out or split_path(data, shots, seed)
    write_split(path, items, tree, force)
    for name, count in find_short_classes(tree, shots).items():
        print(printable(f"warning: {name} has {count} of {shots} images"), file=sys.stderr)
    classes = len({item.label for item in items})
    print(printable(f"make_split: {len(items)} images of {classes} classes -> {path}"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draws a few-shot split of a data set.")
    parser.add_argument("--data", type=Path, default=Path("Dataset"), help="tree, folder or list")
    parser.add_argument("--shots", type=int, default=4, help="images a class")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: Dataset/splits/<name>_4shot_seed1.jsonl")
    parser.add_argument("--force", action="store_true", help="replace a split that differs")
    given = parser.parse_args(arguments)
    try:
        make(given.data, given.shots, given.seed, given.out, given.force)
    except (ValueError, OSError) as error:
        sys.exit(f"make_split: {printable(str(error))}")


if __name__ == "__main__":
    main()
