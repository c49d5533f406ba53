"""Downloads the official archive of a baseline data set and checks it.

    python -m scripts.get_data cifar10                 (to Dataset/cifar10/)
    python -m scripts.get_data caltech101 --root FOLDER

A partial file is completed. Without a network, the message names the address, the folder and the
checksum for a download by hand. The recipes read archives as they are: do not unpack them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from tyro.conf import Positional

from baselines.datasets.archives import download
from baselines.datasets.registry import DATASETS, DatasetName
from engine.config import parse
from engine.session import exit_on_error
from runtime.paths import ROOT


@dataclass(frozen=True)
class Config:
    """Downloads the official archive of a data set and checks it."""

    name: Positional[DatasetName]
    """the data set"""
    root: Path | None = None
    """folder to fill; by default Dataset/ and the data set's name"""


def main(arguments: list[str]) -> None:
    """Downloads the archive and prints its path."""
    config = parse(Config, arguments, "get_data")
    with exit_on_error("get_data"):
        archives = DATASETS[config.name].archives
        if not archives:
            raise ValueError(f"{config.name}: has no archive; name its folder with --root")
        print(download(archives[0], config.root or ROOT / "Dataset" / config.name))


if __name__ == "__main__":
    main(sys.argv[1:])
