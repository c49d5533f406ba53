"""Checks the form of a result: every test image once, in order, with five class ids each.

    python -m scripts.validate result.zip --data Dataset --images TestSetB

Takes result.txt or result.zip. Prints one line if it is valid. Otherwise names the line and the
cause, and ends with status 1. Needs neither weights nor Jittor.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from tyro.conf import Positional

from data.few_shot_dataset import list_test_images, open_dataset
from engine.config import parse
from engine.session import exit_on_error
from fewshot.inference.submission import validate, validate_zip


@dataclass(frozen=True)
class Config:
    """Checks the form of a result."""

    result: Positional[Path]
    """result.txt or result.zip"""
    data: Path = Path("Dataset")
    """data set, for its class list"""
    images: str = "TestSetB"
    """test images: TestSetA, TestSetB, or a folder or list of images"""


def main(arguments: list[str]) -> None:
    """Reads the class list and the test images, then the result."""
    config = parse(Config, arguments, "validate")
    with exit_on_error("validate"):
        dataset = open_dataset(config.data)
        names = [sample.name for sample in list_test_images(dataset, config.images)]
        check = validate_zip if config.result.suffix == ".zip" else validate
        check(config.result, names, len(dataset.label_space))
    print(f"{config.result}: valid, {len(names)} images")


if __name__ == "__main__":
    main(sys.argv[1:])
