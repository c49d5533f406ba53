"""Labelled images: in one array, or as files that are decoded when they are needed.

N images, C classes, H x W pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.decoding import BrokenImage, content_key_or_error, decode, map_in_order
from data.folders import class_folders
from data.lists import DataError

ImageFile = Path | bytes  # on disk, or the content of a file in an archive


class Norm(NamedTuple):
    """Mean and standard deviation of R, G and B in [0, 1] over a set of training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N labelled images of one part of a data set.

    images: uint8[N,H,W,3] (RGB), or N files. labels: int32[N] in 0..C-1. class_names: C names.
    keys: N different names by which splits know the images: "train/3" in an array, else the path
    below the folder of the data set. source: the file or folder they came from, for errors.
    Raises `DataError` if these do not fit together.
    """

    images: np.ndarray | tuple[ImageFile, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    source: str = "the image set"

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
            raise DataError(f"{self.source}: labels must be a list of whole numbers")
        if not len(self.images) == len(labels) == len(self.keys):
            counts = f"{len(self.images)} images, {len(labels)} labels and {len(self.keys)} keys"
            raise DataError(f"{self.source}: {counts}; each image needs one label and one key")
        if isinstance(self.images, np.ndarray) and (
            self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3
        ):
            shape = f"{self.images.dtype}{list(self.images.shape)}"
            raise DataError(f"{self.source}: images are {shape}; they must be uint8[N,H,W,3]")
        invalid = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if len(invalid):
            raise DataError(
                f"{self.source}: label {labels[invalid[0]]} of {self.keys[invalid[0]]} is out of "
                f"the range 0 to {len(self.class_names) - 1}; get the data again"
            )
        if len(set(self.keys)) < len(self.keys):
            raise DataError(f"{self.source}: an image is listed twice; get the data again")
        object.__setattr__(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Sequence[int] | np.ndarray | slice) -> "ImageSet":
        """Returns the images of these rows (numbers or a mask[N]) in their order, classes kept."""
        rows = np.arange(len(self))[rows]
        images = (
            self.images[rows]
            if isinstance(self.images, np.ndarray)
            else tuple(self.images[row] for row in rows)
        )
        keys = tuple(self.keys[row] for row in rows)
        return ImageSet(images, self.labels[rows], self.class_names, keys, self.source)

    def image(self, row: int) -> Image.Image:
        """Returns the image of a row as RGB, EXIF ignored; raises `DataError` for a broken file."""
        if isinstance(self.images, np.ndarray):
            return Image.fromarray(self.images[row])
        file = self.images[row]
        try:
            if isinstance(file, bytes):
                return decode(f"{self.source}: {self.keys[row]}", file).convert("RGB")
            return decode(file).convert("RGB")
        except BrokenImage as error:
            raise DataError(f"{error}; replace this image or remove it") from error

    def in_memory(self, workers: int = 2) -> "ImageSet":
        """Decodes the images into one array with `workers` threads; all must have one size."""
        if isinstance(self.images, np.ndarray):
            return self
        if not len(self):
            raise DataError(f"{self.source}: holds no image")
        width, height = self.image(0).size
        pixels = np.empty((len(self), height, width, 3), np.uint8)

        def load(row: int) -> None:
            image = self.image(row)
            if image.size != (width, height):
                raise DataError(
                    f"{self.source}: {self.keys[row]} has {image.width} x {image.height} pixels, "
                    f"{self.keys[0]} has {width} x {height}; one array needs one size"
                )
            pixels[row] = np.asarray(image)

        for _ in map_in_order(load, range(len(self)), max(workers, 1)):
            pass
        return ImageSet(pixels, self.labels, self.class_names, self.keys, self.source)


def folder_set(
    folder: str | Path,
    prefix: str = "",
    class_names: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> ImageSet:
    """Returns the images `<folder>/<prefix><class>/*`, by class, then by name in natural order.

    class_names: the classes in the order of their ids; by default the folders, sorted. Keys are
    paths below `folder`. Raises `DataError` if there is no image, or a folder of an unknown class.
    """
    folder, parent = Path(folder), Path(folder) / prefix
    classes = class_folders(parent, skip)
    if not classes:
        raise DataError(f"{parent}: holds no image; it must hold one folder of images per class")
    names = tuple(class_names if class_names is not None else classes)
    ids = {name: label for label, name in enumerate(names)}
    unknown = [name for name in classes if name not in ids]
    if unknown:
        raise DataError(
            f"{parent / unknown[0]}: the training images have no class of this name; "
            "rename or remove the folder"
        )
    keys = [f"{prefix}{name}/{image}" for name, images in classes.items() for image in images]
    labels = np.repeat([ids[name] for name in classes], [len(i) for i in classes.values()])
    return ImageSet(tuple(folder / key for key in keys), labels, names, tuple(keys), str(folder))


def part_folder_set(root: Path, part: str) -> ImageSet:
    """Returns the images `<root>/<part>/<class>/*`, with the classes of the part "train"."""
    if not (root / part).is_dir():
        raise DataError(f"{root / part}: no such folder; it must hold the images of part {part!r}")
    train = folder_set(root, "train/")
    return train if part == "train" else folder_set(root, f"{part}/", train.class_names)


def image_set_digest(images: ImageSet) -> dict:
    """Returns the number of images, and one SHA-256 of their keys, labels and contents."""
    digest = hashlib.sha256()
    for key, label, image in zip(images.keys, images.labels, images.images, strict=True):
        content = content_key_or_error(image) if isinstance(image, Path) else _content_digest(image)
        digest.update(f"{key}\n{label}\n{content}\n".encode("utf-8", "surrogateescape"))
    return {"images": len(images), "sha256": digest.hexdigest()}


def _content_digest(image: np.ndarray | bytes) -> str:
    return hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).hexdigest()
