"""Tiny-ImageNet-200: 200 classes of 500 training images, 64 x 64 pixels, from the zip or unpacked.

Its own test images have no labels that anybody has published, so its 10,000 validation images are
the "test" part here, as the field does; what is to be chosen is chosen on a share of "train".
Read straight from the zip, the files of a part (200 MB for "train") are held in memory.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from baselines.datasets.archive_members import MAX_MEMBER, read_zip
from baselines.datasets.archives import archives_of, find_archive, missing
from baselines.datasets.image_sets import ImageFile, ImageSet
from data.folders import is_image, natural_key, walk_images
from data.lists import DataError, read_file

NAME = "tiny_imagenet"
WNIDS, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"
TEXTS = (WNIDS, ANNOTATIONS)
PLACES = {"train": "train/", "test": "val/"}  # where the images of a part stand


def open_tiny_imagenet(root: str | Path, part: str) -> ImageSet:
    """The "train" or "test" images as files; "test" are those of val/, see above.

    `root` is tiny-imagenet-200.zip, the folder that it unpacks to, or a folder that holds one of
    these; the unpacked folder goes first. Class names are the WordNet ids of wnids.txt, sorted;
    prompts/classes/tiny_imagenet.json says what they mean. Keys are paths below tiny-imagenet-200/.
    Raises `DataError` naming the file and the remedy.
    """
    files, source = _files(Path(root), PLACES[part])
    names = tuple(sorted(set(_text(files, WNIDS, source).split())))
    ids = {name: label for label, name in enumerate(names)}
    find = _train_classes if part == "train" else _annotated_classes
    classes = find(files, source)
    if not classes:
        raise DataError(f"{source}: holds no image in {PLACES[part]}; unpack or download it again")
    strange = next((key for key, name in classes.items() if name not in ids), None)
    if strange is not None:
        raise DataError(
            f"{source}: {strange} is of class {classes[strange]!r}, which {WNIDS} does not list; "
            "download the data again"
        )
    keys = sorted(classes, key=lambda key: (ids[classes[key]], natural_key(key)))
    labels = np.array([ids[classes[key]] for key in keys])
    return ImageSet(tuple(files[key] for key in keys), labels, names, tuple(keys), str(source))


def _files(root: Path, place: str) -> tuple[Mapping[str, ImageFile], Path]:
    """({path below tiny-imagenet-200/: file}, source): the texts, and the images in `place`."""
    (archive,) = archives_of(NAME)
    for folder in (root / archive.top, root):
        if (folder / WNIDS).is_file():
            files: dict[str, ImageFile] = {t: folder / t for t in TEXTS if (folder / t).is_file()}
            if (folder / place).is_dir():
                files |= {f"{place}{n}": folder / place / n for n in walk_images(folder / place)}
            return files, folder
    found = find_archive(NAME, root)
    if found is None:
        raise missing(NAME, root, f"or the folder {archive.top} that it unpacks to")

    def wanted(path: str) -> bool:
        image = path.startswith(place) and is_image(path.rsplit("/", 1)[-1])
        return image or path in TEXTS

    return read_zip(found[1], archive.top, wanted), found[1]


def _text(files: Mapping[str, ImageFile], name: str, source: Path) -> str:
    if name not in files:
        raise DataError(f"{source}: {name} is missing; unpack or download it again")
    file = files[name]
    content = file if isinstance(file, bytes) else read_file(file, MAX_MEMBER)
    return content.decode("utf-8", "replace")


def _train_classes(files: Mapping[str, ImageFile], source: Path) -> dict[str, str]:
    """{key: class} of train/<class>/images/*."""
    classes = {}
    for key in files:
        match = re.fullmatch("train/([^/]+)/images/[^/]+", key)
        if match:
            classes[key] = match[1]
        elif key not in TEXTS:
            raise DataError(
                f"{source}: {key} is not in train/<class>/images/; unpack the archive again"
            )
    return classes


def _annotated_classes(files: Mapping[str, ImageFile], source: Path) -> dict[str, str]:
    """{key: class} of val/images/*, by "val_0.JPEG<tab>n03444034<tab>..." in the annotations."""
    classes: dict[str, str] = {}
    for number, line in enumerate(_text(files, ANNOTATIONS, source).splitlines(), 1):
        if not line.strip():
            continue
        image, *rest = line.split("\t")
        key, where = f"val/images/{image}", f"{source}: {ANNOTATIONS}, line {number}"
        if not rest:
            raise DataError(
                f"{where}: expected image, tab, class, found {line[:80]!r}; download the data again"
            )
        if key in classes:
            raise DataError(f"{where}: {image} comes twice; download the data again")
        if key not in files:
            raise DataError(f"{where}: {key} is missing; unpack or download the data again")
        classes[key] = rest[0].strip()
    unknown = next((key for key in files if key not in classes and key not in TEXTS), None)
    if unknown is not None:
        raise DataError(
            f"{source}: {unknown} has no class in {ANNOTATIONS}; unpack the archive again (a val/ "
            "that was sorted into class folders can be opened as 'folder')"
        )
    return classes
