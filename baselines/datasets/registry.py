"""The registry of data sets: how each is opened, normalized and downloaded.

To add one, write `open_<name>(root, part) -> ImageSet` and add its line to `DATASETS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from baselines.datasets import caltech101, cifar, tiny_imagenet
from baselines.datasets.archives import Archive
from baselines.datasets.image_sets import ImageSet, Norm, folder_set, part_folder_set
from baselines.datasets.splits import draw_part
from data.lists import DataError

IMAGENET = Norm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class DatasetEntry:
    """What the registry knows about one data set."""

    open: Callable[..., ImageSet]
    """open(root, part, **options): the images of one part"""
    norm: Norm = IMAGENET
    """mean and standard deviation that its images are normalized by"""
    archives: tuple[Archive, ...] = ()
    """official archives; `scripts.get_data` downloads the first"""
    parts: tuple[str, ...] = ("train", "test")
    """parts that `open` takes; empty if they depend on the folder"""


def open_folder(root: Path, part: str) -> ImageSet:
    """Returns the images `<root>/<part>/<class>/*`, or a drawn part of `<root>/<class>/*`."""
    if (root / "train").is_dir():
        return part_folder_set(root, part)
    return draw_part(folder_set(root), part)


DATASETS = {
    "cifar10": DatasetEntry(
        partial(cifar.open_cifar, "cifar10"), cifar.NORMS["cifar10"], cifar.ARCHIVES["cifar10"]
    ),
    "cifar100": DatasetEntry(
        partial(cifar.open_cifar, "cifar100"), cifar.NORMS["cifar100"], cifar.ARCHIVES["cifar100"]
    ),
    "tiny_imagenet": DatasetEntry(
        tiny_imagenet.open_tiny_imagenet, archives=(tiny_imagenet.ARCHIVE,)
    ),
    "caltech101": DatasetEntry(
        caltech101.open_caltech, archives=caltech101.ARCHIVES, parts=("train", "test", "all")
    ),
    "folder": DatasetEntry(open_folder, parts=()),
}
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]  # the command line lists the names


def load_dataset(name: str, root: str | Path, part: str = "train", **options: Any) -> ImageSet:
    """Returns the images of one part of the data set at `root`; downloads and writes nothing.

    part: "train" or "test". A "folder" with `train/<class>/*` has the parts that have a folder.
    Caltech-101 and a "folder" of `<class>/*` have no split of their own: "train" and "test" are
    drawn by a fixed seed, and "all" is the whole set. A validation part is drawn from "train"
    (`read_or_draw_split`). options: `classes` of Caltech-101.
    Raises ValueError for an unknown name or part, and `DataError` that names the file and the
    remedy.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set is named {name!r}; there are {', '.join(DATASETS)}")
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder or archive; put {name} there or change --root")
    entry = DATASETS[name]
    if entry.parts and part not in entry.parts:
        raise ValueError(f"part is {part!r}; {name} has {', '.join(entry.parts)}")
    return entry.open(root, part, **options)
