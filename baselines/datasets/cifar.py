"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): arrays of 32 x 32 pixels from any form they come in.

The archive is read without being unpacked, and its pickles by `runtime`'s own pickle machine, which
imports and calls nothing. https://www.cs.toronto.edu/~kriz/cifar.html describes both forms.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baselines.datasets.archive_members import MAX_MEMBER, read_tar
from baselines.datasets.archives import archives_of, find_archive, missing
from baselines.datasets.image_sets import ImageSet, folder_set
from data.lists import DataError, read_file
from weight_files.limits import Budget, Stream
from weight_files.rebuild import Rebuilder
from weight_files.unpickle import Machine

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE  # bytes an image: all red, then all green, then all blue
COUNTS = {"cifar10": 10, "cifar100": 100}  # classes; CIFAR-100's fine ones

Files = dict[str, Path] | dict[str, bytes]  # on disk, or out of an archive


@dataclass(frozen=True)
class Form:
    """Where one form of the archive keeps what.

    Pickles: `names_key` and `labels_key` are the keys of their dictionaries. Binary records: no
    keys, and `label_bytes` before the pixels, of which the last is the (fine) label.
    """

    parts: dict[str, tuple[str, ...]]
    names: str
    names_key: str = ""
    labels_key: str = ""
    label_bytes: int = 0


BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FORMS: dict[str, tuple[Form, ...]] = {  # in the order of `baselines.datasets.archives.ARCHIVES`
    "cifar10": (
        Form({"train": BATCHES, "test": ("test_batch",)}, "batches.meta", "label_names", "labels"),
        Form(
            {"train": tuple(f"{name}.bin" for name in BATCHES), "test": ("test_batch.bin",)},
            "batches.meta.txt",
            label_bytes=1,
        ),
    ),
    "cifar100": (
        Form({"train": ("train",), "test": ("test",)}, "meta", "fine_label_names", "fine_labels"),
        Form(
            {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", label_bytes=2
        ),
    ),
}


def open_cifar(name: str, root: str | Path, part: str) -> ImageSet:
    """The "train" or "test" images of "cifar10" or "cifar100", as uint8[N,32,32,3].

    `root` is the official archive (Python or binary form), the folder that it unpacks to, or a
    folder that holds one of these or `train/<class>/*` and `test/<class>/*`; taken is the first
    there is: unpacked, archive, class folders. Keys are "train/0", "train/1", ... in the order of
    the archive, equal in both forms, or the paths of the images. Class names are the official ones,
    CIFAR-100's the fine ones. Raises `DataError` naming the file and the remedy.
    """
    root = Path(root)
    for archive, form in zip(archives_of(name), FORMS[name], strict=True):
        for folder in (root / archive.top, root):
            if (folder / form.names).is_file():
                files = {file: folder / file for file in (form.names, *form.parts[part])}
                return _read(name, part, form, files, folder)
    found = find_archive(name, root)
    if found is not None:
        archive, path = found
        form = FORMS[name][archives_of(name).index(archive)]
        wanted = {form.names, *form.parts[part]}
        contents = read_tar(path, archive.top, wanted.__contains__, len(wanted))
        return _read(name, part, form, contents, path)
    if (root / "train").is_dir():
        return _folders(name, root, part)
    raise missing(name, root, "or train/<class>/ and test/<class>/ with the images")


def _folders(name: str, root: Path, part: str) -> ImageSet:
    train = folder_set(root, "train/")
    if len(train.class_names) != COUNTS[name]:
        raise DataError(
            f"{root / 'train'}: holds {len(train.class_names)} classes, {name} has "
            f"{COUNTS[name]}; name another folder, or open it as 'folder'"
        )
    found = train if part == "train" else folder_set(root, f"{part}/", train.class_names)
    found = found.in_memory()
    assert isinstance(found.images, np.ndarray)  # in memory they are one array
    if found.images.shape[1:3] != (SIDE, SIDE):
        height, width = found.images.shape[1:3]
        raise DataError(
            f"{root}: images have {width} x {height} pixels, CIFAR's {SIDE} x {SIDE}; open it as "
            "'folder'"
        )
    return found


def _read(name: str, part: str, form: Form, files: Files, source: Path) -> ImageSet:
    absent = [f for f in (form.names, *form.parts[part]) if f not in files]
    absent += [f for f, place in files.items() if isinstance(place, Path) and not place.is_file()]
    if absent:
        raise DataError(f"{source}: {absent[0]} is missing; download {name} again")
    class_names = _class_names(form, _content(files, form.names), source / form.names)
    if len(class_names) != COUNTS[name]:
        raise DataError(
            f"{source / form.names}: names {len(class_names)} classes, {name} has {COUNTS[name]}; "
            f"download it again"
        )
    read = _read_records if form.label_bytes else _read_pickled
    batches = [read(form, _content(files, f), source / f) for f in form.parts[part]]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    keys = tuple(f"{part}/{row}" for row in range(len(images)))
    return ImageSet(images, labels, class_names, keys, str(source))


def _content(files: Files, name: str) -> bytes:
    """The content of a file, which is forgotten, for one may have 155 MB."""
    file = files.pop(name)
    return file if isinstance(file, bytes) else read_file(file, MAX_MEMBER)


def _class_names(form: Form, content: bytes, place: Path) -> tuple[str, ...]:
    names: object
    if form.label_bytes:
        names = content.decode("latin-1").split()
    else:
        names = _unpickle(content, place).get(form.names_key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{place}: has no list {form.names_key}; download the data again")
    return tuple(names)


def _read_pickled(form: Form, content: bytes, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[N,32,32,3], labels[N]) of one batch of the Python form."""
    batch = _unpickle(content, place)
    pixels, labels = batch.get("data"), batch.get(form.labels_key)
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == PIXELS
        and isinstance(labels, list)
        and len(labels) == len(pixels)
        and all(type(label) is int for label in labels)
    ):
        raise DataError(
            f"{place}: is no batch of CIFAR: it must hold uint8[N,{PIXELS}] as 'data' and N "
            f"{form.labels_key!r}; download the data again"
        )
    return _pictures(pixels), _labels(labels, place)


def _read_records(form: Form, content: bytes, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[N,32,32,3], labels[N]) of one file of the binary form."""
    size = form.label_bytes + PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{place}: is cut off: {len(content)} bytes are no whole number of images of {size} "
            "bytes; download the data again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return _pictures(records[:, form.label_bytes :]), records[:, form.label_bytes - 1].astype(int)


def _pictures(pixels: np.ndarray) -> np.ndarray:
    """uint8[N,32,32,3] of planes [N,3*32*32]."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _labels(labels: list[int], place: Path) -> np.ndarray:
    try:
        return np.array(labels, np.int32)
    except OverflowError:
        raise DataError(f"{place}: a label is out of range; download the data again") from None


def _unpickle(content: bytes, place: Path) -> dict:
    """The dictionary of a pickle as Python 2 wrote it; its byte strings come as Latin-1 text."""
    try:
        rebuilder = Rebuilder(Budget(len(content)))
        item = rebuilder.finish(Machine(Stream(content), rebuilder).run())
    except Exception as error:  # a damaged file may trip any step; nothing in it is ever run
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(
            f"{place}: is damaged or no batch of CIFAR, nothing in it was run ({detail}); "
            "download the data again"
        ) from error
    if not isinstance(item, dict):
        raise DataError(f"{place}: holds no dictionary, but {type(item).__name__}")
    return item
