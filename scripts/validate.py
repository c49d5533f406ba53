"""Holds a result to its form: every test image once, in order, five class ids each.

    python -m scripts.validate result.zip --data Dataset --split TestSetB

Takes result.txt or result.zip. One line says that it is valid, or names the line and the cause and
ends with status 1. Needs neither weights nor Jittor.
"""

import argparse
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from data.few_shot_dataset import list_test_images, open_dataset
from engine.session import exit_on_error
from fewshot.inference.submission import validate, validate_zip


def main() -> None:
    """Reads the lists, then the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="result.txt or result.zip")
    parser.add_argument("--data", type=Path, default=Path("Dataset"), help="for its class lists")
    parser.add_argument("--split", default="TestSetB", help="test images, or a folder or list")
    given = parser.parse_args()
    with exit_on_error("validate"):
        tree = open_dataset(given.data)
        names = [item.name for item in list_test_images(tree, given.split)]
        check = validate_zip if given.result.suffix == ".zip" else validate
        check(given.result, names, len(tree.label_space))
    print(f"{given.result}: valid, {len(names)} images")


if __name__ == "__main__":
    main()
