"""One door to the recipes' data sets: by name, place and part."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from baselines.datasets.caltech101 import open_caltech
from baselines.datasets.cifar import open_cifar
from baselines.datasets.image_sets import ImageSet, folder_set, parted_set
from baselines.datasets.splits import stratified_split
from baselines.datasets.tiny_imagenet import open_tiny_imagenet
from data.lists import DataError

DataSet = Literal["cifar10", "cifar100", "tiny_imagenet", "caltech101", "folder"]
FIXED: dict[str, Callable[[Path, str], ImageSet]] = {  # those with a train and a test part
    "cifar10": partial(open_cifar, "cifar10"),
    "cifar100": partial(open_cifar, "cifar100"),
    "tiny_imagenet": open_tiny_imagenet,
}


def load_dataset(
    name: str,
    root: str | Path,
    part: str = "train",
    *,
    classes: int = 101,
    seed: int = 0,
    shares: Sequence[float] = (0.8, 0.2),
) -> ImageSet:
    """The images of one part of a data set that lies at `root`; nothing is downloaded or moved.

    part: "train" or "test". A "folder" with `train/<class>/*` has the parts that have a folder,
    such as "val". Caltech-101, and a "folder" of `<class>/*`, have no split of their own: "train"
    and "test" are drawn by `stratified_split` with `shares` and `seed`, and "all" is all of it, for
    a split of another kind. To choose anything, draw a validation part from "train":
    `read_or_draw_split`. classes: of Caltech-101, 100, 101 or 102, see
    `baselines.datasets.caltech101`.
    Raises ValueError for an unknown name or part, `DataError` naming the file and the remedy.
    """
    if name not in get_args(DataSet):
        raise ValueError(f"no data set is named {name!r}; there are {', '.join(get_args(DataSet))}")
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder or archive; put {name} there or name its place")
    parted = name == "folder" and (root / "train").is_dir()
    if name in FIXED and part not in ("train", "test"):
        remedy = "draw a validation part from train (baselines.datasets.splits.read_or_draw_split)"
        raise ValueError(f"part is {part!r}; {name} has train and test: {remedy}")
    if name in FIXED:
        return FIXED[name](root, part)
    if parted:
        return parted_set(root, part)
    if part not in ("train", "test", "all"):
        raise ValueError(f"part is {part!r}; {name} has train, test and all at {root}")
    whole = open_caltech(root, classes) if name == "caltech101" else folder_set(root)
    if part == "all":
        return whole
    if len(shares) != 2:
        raise ValueError(f"shares are {tuple(shares)}; there are two parts, train and test")
    train, test = stratified_split(whole.labels, whole.keys, shares, seed)
    return whole.take(train if part == "train" else test)
