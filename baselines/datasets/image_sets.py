"""Labelled images for the recipes: in one array, or as files that are opened when asked for.

N images, H x W pixels.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.decoding import BrokenImage, decode, known_as
from data.folders import list_folder
from data.lists import DataError

ImageFile = Path | bytes  # on disk, or its content where that came out of an archive


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N labelled images of one part of a data set.

    images: uint8[N,H,W,3] (RGB), or N files. labels: int32[N], below C. class_names: C names.
    keys: N names by which splits know the images, such as "train/3" in an archive of arrays, else
    the path below the data set's folder. source: the file or folder they came from, for errors.
    Raises `DataError` where these do not fit together.
    """

    images: np.ndarray | tuple[ImageFile, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    source: str = "the image set"

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or (len(labels) and labels.dtype.kind not in "iu"):
            raise DataError(f"{self.source}: labels must be whole numbers in one row")
        if not len(self.images) == len(labels) == len(self.keys):
            raise DataError(
                f"{self.source}: {len(self.images)} images, {len(labels)} labels and "
                f"{len(self.keys)} keys; there must be one of each an image"
            )
        if isinstance(self.images, np.ndarray) and (
            self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3
        ):
            shape = f"{self.images.dtype}{list(self.images.shape)}"
            raise DataError(f"{self.source}: images are {shape}; they must be uint8[N,H,W,3]")
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if len(wrong):
            raise DataError(
                f"{self.source}: label {labels[wrong[0]]} of {self.keys[wrong[0]]} is out of "
                f"range; there are 0 to {len(self.class_names) - 1}; get the data again"
            )
        if len(set(self.keys)) < len(self.keys):
            raise DataError(f"{self.source}: an image comes twice; get the data again")
        object.__setattr__(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Sequence[int] | np.ndarray | slice) -> "ImageSet":
        """The images of these rows (numbers or a mask[N]), in their order; classes stay."""
        rows = np.arange(len(self))[rows]
        images = (
            self.images[rows]
            if isinstance(self.images, np.ndarray)
            else tuple(self.images[row] for row in rows)
        )
        keys = tuple(self.keys[row] for row in rows)
        return ImageSet(images, self.labels[rows], self.class_names, keys, self.source)

    def image(self, row: int) -> Image.Image:
        """The image of a row as RGB, EXIF not applied; raises `DataError` naming a broken file."""
        if isinstance(self.images, np.ndarray):
            return Image.fromarray(self.images[row])
        file = self.images[row]
        try:
            if isinstance(file, bytes):
                return decode(f"{self.source}: {self.keys[row]}", file).convert("RGB")
            return decode(file).convert("RGB")
        except BrokenImage as error:
            raise DataError(f"{error}; replace this image or take it away") from error

    def in_memory(self, workers: int = 2) -> "ImageSet":
        """The same images as one array, decoded by `workers` threads; all must have one size."""
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
                    f"{self.keys[0]} {width} x {height}; one array needs one size"
                )
            pixels[row] = np.asarray(image)

        pool = ThreadPoolExecutor(max(workers, 1))
        try:
            for _ in pool.map(load, range(len(self))):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return ImageSet(pixels, self.labels, self.class_names, self.keys, self.source)


def class_folders(folder: str | Path, skip: Sequence[str] = ()) -> dict[str, list[str]]:
    """{class: base names of its images}, sorted, of a folder of one folder a class.

    Folders without an image, and those of the names in `skip`, are left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return {}
    names = sorted(name for name in list_folder(folder)[0] if name not in skip)
    classes = {name: list_folder(folder / name)[1] for name in names}
    return {name: images for name, images in classes.items() if images}


def folder_set(
    folder: str | Path,
    prefix: str = "",
    class_names: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> ImageSet:
    """The images `<folder>/<prefix><class>/*`, by class, then by name in natural order.

    `class_names` gives the ids, those of the folders found otherwise. Keys are paths below
    `folder`. Raises `DataError` where there is no image, or a folder of no known class.
    """
    folder, place = Path(folder), Path(folder) / prefix
    classes = class_folders(place, skip)
    if not classes:
        raise DataError(f"{place}: holds no image; one folder of images a class belongs there")
    names = tuple(class_names if class_names is not None else classes)
    ids = {name: label for label, name in enumerate(names)}
    strange = [name for name in classes if name not in ids]
    if strange:
        raise DataError(
            f"{place / strange[0]}: the training images have no class of this name; "
            "correct or remove the folder"
        )
    keys = [f"{prefix}{name}/{image}" for name, images in classes.items() for image in images]
    labels = np.repeat([ids[name] for name in classes], [len(i) for i in classes.values()])
    return ImageSet(tuple(folder / key for key in keys), labels, names, tuple(keys), str(folder))


def parted_set(root: Path, part: str) -> ImageSet:
    """The images `<root>/<part>/<class>/*`; the classes are those of part "train"."""
    if not (root / part).is_dir():
        raise DataError(f"{root / part}: no such folder; it would hold the images of part {part!r}")
    train = folder_set(root, "train/")
    return train if part == "train" else folder_set(root, f"{part}/", train.class_names)


def image_set_digest(images: ImageSet) -> dict:
    """How many images a set has, and one hash of their keys, labels and contents."""
    digest = hashlib.sha256()
    for key, label, image in zip(images.keys, images.labels, images.images, strict=True):
        content = known_as(image) if isinstance(image, Path) else _memory_hash(image)
        digest.update(f"{key}\n{label}\n{content}\n".encode("utf-8", "surrogateescape"))
    return {"images": len(images), "sha256": digest.hexdigest()}


def _memory_hash(image: np.ndarray | bytes) -> str:
    return hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).hexdigest()
