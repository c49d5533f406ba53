"""Downloads a baseline data set's official archive and checks it.

    python -m scripts.get_data cifar10                 (to Dataset/cifar10/)
    python -m scripts.get_data caltech101 --root PLACE

A partial file is completed. Without a network it says where to fetch the file by hand, where to put
it, and its checksum. The recipes read archives as they are: nothing has to be unpacked.
"""

import argparse
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from baselines.datasets.archives import download
from baselines.datasets.registry import DATASETS
from engine.session import exit_on_error
from runtime.paths import ROOT


def main() -> None:
    """Downloads and prints the place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "name", choices=[name for name, entry in DATASETS.items() if entry.archives]
    )
    parser.add_argument("--root", type=Path, help="folder to fill; by default Dataset/<name>")
    given = parser.parse_args()
    with exit_on_error("get_data"):
        print(
            download(DATASETS[given.name].archives[0], given.root or ROOT / "Dataset" / given.name)
        )


if __name__ == "__main__":
    main()
