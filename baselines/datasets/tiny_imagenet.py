"""Tiny-ImageNet-200: 200 classes of 500 training images of 64 x 64 pixels, zipped or unpacked.

The labels of its test images were never published. So its 10,000 validation images are the part
"test" here, as in papers; settings are chosen on a share of "train". Files of a part that are read
from the zip (200 MB for "train") stay in memory.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from baselines.datasets.archives import (
    MAX_FILE_BYTES,
    Archive,
    find_archive,
    missing_data,
    read_zip,
)
from baselines.datasets.image_sets import ImageFile, ImageSet
from data.folders import is_image, natural_key, walk_images
from data.lists import DataError, read_file

ARCHIVE = Archive(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    "tiny-imagenet-200",
)
WNIDS, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"
AGAIN = "unpack or download the data again"
TEXTS = (WNIDS, ANNOTATIONS)
FOLDERS = {"train": "train/", "test": "val/"}  # of the images of each part


def open_tiny_imagenet(root: Path, part: str) -> ImageSet:
    """Returns the "train" or "test" images as files; "test" are the official validation images.

    `root` is tiny-imagenet-200.zip, the folder that it unpacks to, or a folder that holds one of
    these; the unpacked folder is read first. Class names are the WordNet ids of wnids.txt, sorted;
    prompts/classes/tiny_imagenet.json says what they mean. Keys are paths below tiny-imagenet-200/.
    Raises `DataError` that names the file and the remedy.
    """
    files, source = _files(root, FOLDERS[part])
    names = tuple(sorted(set(_text(files, WNIDS, source).split())))
    ids = {name: label for label, name in enumerate(names)}
    classes = (_train_classes if part == "train" else _annotated_classes)(files, source)
    if not classes:
        raise DataError(f"{source}: holds no image in {FOLDERS[part]}; unpack or download it again")
    for key, name in classes.items():
        if name not in ids:
            unlisted = f"class {name!r}, which {WNIDS} does not list"
            raise DataError(f"{source}: {key} is of {unlisted}; {AGAIN}")
    keys = sorted(classes, key=lambda key: (ids[classes[key]], natural_key(key)))
    labels = np.array([ids[classes[key]] for key in keys])
    return ImageSet(tuple(files[key] for key in keys), labels, names, tuple(keys), str(source))


def _files(root: Path, prefix: str) -> tuple[Mapping[str, ImageFile], Path]:
    """Returns ({path below tiny-imagenet-200/: file}, source): the texts and a part's images."""
    for folder in (root / ARCHIVE.top, root):
        if (folder / WNIDS).is_file():
            files: dict[str, ImageFile] = {t: folder / t for t in TEXTS if (folder / t).is_file()}
            if (folder / prefix).is_dir():
                names = walk_images(folder / prefix)
                files |= {f"{prefix}{name}": folder / prefix / name for name in names}
            return files, folder
    found = find_archive((ARCHIVE,), root)
    if found is None:
        raise missing_data(ARCHIVE, root, f"the folder {ARCHIVE.top} that it unpacks to")

    def is_wanted(path: str) -> bool:
        return path in TEXTS or path.startswith(prefix) and is_image(path.rsplit("/", 1)[-1])

    return read_zip(found[1], ARCHIVE.top, is_wanted), found[1]


def _text(files: Mapping[str, ImageFile], name: str, source: Path) -> str:
    if name not in files:
        raise DataError(f"{source}: {name} is missing; unpack or download it again")
    file = files[name]
    content = file if isinstance(file, bytes) else read_file(file, MAX_FILE_BYTES)
    return content.decode("utf-8", "replace")


def _train_classes(files: Mapping[str, ImageFile], source: Path) -> dict[str, str]:
    """Returns {key: class} of train/<class>/images/*."""
    classes = {}
    for key in files:
        match = re.fullmatch("train/([^/]+)/images/[^/]+", key)
        if match:
            classes[key] = match[1]
        elif key not in TEXTS:
            raise DataError(f"{source}: {key} is not in train/<class>/images/; {AGAIN}")
    return classes


def _annotated_classes(files: Mapping[str, ImageFile], source: Path) -> dict[str, str]:
    """Returns {key: class} of val/images/*.

    A line of the annotations is "val_0.JPEG<tab>n03444034<tab>...".
    """
    classes: dict[str, str] = {}
    for number, line in enumerate(_text(files, ANNOTATIONS, source).splitlines(), 1):
        if not line.strip():
            continue
        image, *columns = line.split("\t")
        key, location = f"val/images/{image}", f"{source}: {ANNOTATIONS}, line {number}"
        if not columns:
            raise DataError(f"{location}: expected image, tab, class, found {line[:80]!r}; {AGAIN}")
        if key in classes:
            raise DataError(f"{location}: {image} is listed twice; {AGAIN}")
        if key not in files:
            raise DataError(f"{location}: {key} is missing; {AGAIN}")
        classes[key] = columns[0].strip()
    unlisted = next((key for key in files if key not in classes and key not in TEXTS), None)
    if unlisted is not None:
        raise DataError(
            f"{source}: {unlisted} has no class in {ANNOTATIONS}; unpack the archive again (a val/ "
            "that was sorted into class folders can be opened with --dataset folder)"
        )
    return classes
