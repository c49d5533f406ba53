"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): arrays of 32 x 32 pixels.

https://www.cs.toronto.edu/~kriz/cifar.html describes the Python and the binary form. Pickles are
read by `weight_files`, which imports and calls nothing, because an unpacked folder has no checksum.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.datasets.archives import (
    MAX_FILE_BYTES,
    Archive,
    find_archive,
    missing_data,
    read_tar,
)
from baselines.datasets.image_sets import ImageSet, Norm, part_folder_set
from data.lists import DataError, read_file
from weight_files.reader import unpickle

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes per image: all red, then all green, then all blue
CLASS_COUNTS = {"cifar10": 10, "cifar100": 100}  # CIFAR-100's fine classes
NORMS = {
    "cifar10": Norm((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar100": Norm((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
Files = dict[str, Path] | dict[str, bytes]  # on disk, or out of an archive


def _archive(name: str, top: str, md5: str) -> Archive:
    return Archive(f"{name}.tar.gz", f"https://www.cs.toronto.edu/~kriz/{name}.tar.gz", md5, top)


@dataclass(frozen=True)
class Form:
    """One form of the data set: its archive, and where the files keep what.

    Pickles have `names_key` and `labels_key`, the keys of their dictionaries. Binary records have
    no keys; they have `label_bytes` before the pixels, of which the last is the (fine) label.
    """

    archive: Archive
    parts: dict[str, tuple[str, ...]]
    names: str
    names_key: str = ""
    labels_key: str = ""
    label_bytes: int = 0


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FORMS: dict[str, tuple[Form, ...]] = {
    "cifar10": (
        Form(
            _archive("cifar-10-python", "cifar-10-batches-py", "c58f30108f718f92721af3b95e74349a"),
            {"train": BATCHES, "test": ("test_batch",)},
            "batches.meta",
            names_key="label_names",
            labels_key="labels",
        ),
        Form(
            _archive("cifar-10-binary", "cifar-10-batches-bin", "c32a1d4ab5d03f1284b67883e8d87530"),
            {"train": tuple(f"{name}.bin" for name in BATCHES), "test": ("test_batch.bin",)},
            "batches.meta.txt",
            label_bytes=1,
        ),
    ),
    "cifar100": (
        Form(
            _archive("cifar-100-python", "cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85"),
            {"train": ("train",), "test": ("test",)},
            "meta",
            names_key="fine_label_names",
            labels_key="fine_labels",
        ),
        Form(
            _archive("cifar-100-binary", "cifar-100-binary", "03b5dce01913d631647c71ecec9e9cb8"),
            {"train": ("train.bin",), "test": ("test.bin",)},
            "fine_label_names.txt",
            label_bytes=2,
        ),
    ),
}
ARCHIVES = {name: tuple(form.archive for form in forms) for name, forms in FORMS.items()}


def open_cifar(name: str, root: Path, part: str) -> ImageSet:
    """Returns the "train" or "test" images of "cifar10" or "cifar100" as uint8[N,32,32,3].

    `root` is an official archive (Python or binary form), the folder that it unpacks to, or a
    folder that holds one of these or `train/<class>/*` and `test/<class>/*`. The first of unpacked
    folder, archive and class folders is read. Keys are "train/0", "train/1", ... in the order of
    the archive, the same in both forms, or the paths of the images. Class names are the official
    ones, for CIFAR-100 the fine ones. Raises `DataError` that names the file and the remedy.
    """
    for form in FORMS[name]:
        for folder in (root / form.archive.top, root):
            if (folder / form.names).is_file():
                files = {file: folder / file for file in (form.names, *form.parts[part])}
                return _read(name, part, form, files, folder)
    found = find_archive(ARCHIVES[name], root)
    if found is not None:
        archive, path = found
        form = next(form for form in FORMS[name] if form.archive == archive)
        names = {form.names, *form.parts[part]}
        return _read(name, part, form, read_tar(path, archive.top, names.__contains__), path)
    if (root / "train").is_dir():
        return _read_class_folders(name, root, part)
    alternatives = "train/<class>/ and test/<class>/ with the images"
    raise missing_data(ARCHIVES[name][0], root, alternatives)


def _read_class_folders(name: str, root: Path, part: str) -> ImageSet:
    images = part_folder_set(root, part)
    if len(images.class_names) != CLASS_COUNTS[name]:
        counts = f"{len(images.class_names)} classes, {name} has {CLASS_COUNTS[name]}"
        raise DataError(f"{root / 'train'}: holds {counts}; use --dataset folder")
    images = images.in_memory()
    assert isinstance(images.images, np.ndarray)  # in memory they are one array
    height, width = images.images.shape[1:3]
    if (height, width) != (SIDE, SIDE):
        sizes = f"{width} x {height} pixels, CIFAR's have {SIDE} x {SIDE}"
        raise DataError(f"{root}: images have {sizes}; use --dataset folder")
    return images


def _read(name: str, part: str, form: Form, files: Files, source: Path) -> ImageSet:
    for file in (form.names, *form.parts[part]):
        content = files.get(file)
        if content is None or isinstance(content, Path) and not content.is_file():
            raise DataError(f"{source}: {file} is missing; download {name} again")
    class_names = _class_names(form, _content(files, form.names), source / form.names)
    if len(class_names) != CLASS_COUNTS[name]:
        counts = f"{len(class_names)} classes, {name} has {CLASS_COUNTS[name]}"
        raise DataError(f"{source / form.names}: names {counts}; download it again")
    read = _read_records if form.label_bytes else _read_pickled
    batches = [read(form, _content(files, f), source / f) for f in form.parts[part]]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    keys = tuple(f"{part}/{row}" for row in range(len(images)))
    return ImageSet(images, labels, class_names, keys, str(source))


def _content(files: Files, name: str) -> bytes:
    """Takes the content of a file out of `files`, so that its memory can be freed."""
    file = files.pop(name)
    return file if isinstance(file, bytes) else read_file(file, MAX_FILE_BYTES)


def _class_names(form: Form, content: bytes, path: Path) -> tuple[str, ...]:
    names: object
    if form.label_bytes:
        names = content.decode("latin-1").split()
    else:
        names = _unpickle(content, path).get(form.names_key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: has no list {form.names_key}; download the data again")
    return tuple(names)


def _read_pickled(form: Form, content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns (uint8[N,32,32,3], labels[N]) of one batch of the Python form."""
    batch: Any = _unpickle(content, path)
    pixels, labels = batch.get("data"), batch.get(form.labels_key)
    is_pixels = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    is_labels = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not is_pixels or not is_labels or pixels.shape != (len(labels), PIXELS):
        raise DataError(f"{path}: is no batch of CIFAR; download the data again")
    return _channels_last(pixels), np.array(labels)


def _read_records(form: Form, content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns (uint8[N,32,32,3], labels[N]) of one file of the binary form."""
    size = form.label_bytes + PIXELS
    if not content or len(content) % size:
        raise DataError(f"{path}: is cut off after {len(content)} bytes; download it again")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = records[:, form.label_bytes - 1].astype(int)
    return _channels_last(records[:, form.label_bytes :]), labels


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8[N,32,32,3] of planes [N,3*32*32]."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _unpickle(content: bytes, path: Path) -> dict:
    """Returns the dictionary of a pickle by Python 2; its byte strings become Latin-1 text."""
    try:
        item = unpickle(content)
    except Exception as error:  # a damaged file may fail at any step
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(
            f"{path}: is damaged or no batch of CIFAR, nothing in it was run ({detail}); "
            "download the data again"
        ) from error
    if not isinstance(item, dict):
        raise DataError(f"{path}: holds {type(item).__name__} instead of a dictionary")
    return item
