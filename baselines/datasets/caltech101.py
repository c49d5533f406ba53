"""Caltech-101 (Fei-Fei et al. 2004): photos of 101 kinds of objects, and one folder of clutter.

Papers count its classes in three ways, so the number is a choice here and belongs to every result:
102 folders; 101 without BACKGROUND_Google, the clutter; 100 also without Faces_easy, which shows
the photos of Faces cropped closer. There is no official split (see `baselines.datasets.splits`).
"""

import zipfile
from pathlib import Path

import numpy as np

from baselines.datasets.archives import Archive, find_archive, missing_data, read_tar
from baselines.datasets.image_sets import ImageSet, folder_set
from baselines.datasets.splits import draw_part
from data.folders import class_folders, is_image, natural_key
from data.lists import DataError

PACKAGE = Archive(
    "caltech-101.zip",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",
    "3138e1922a9193bfa496528edbbc45d0",
    "caltech-101",
)
IMAGES = Archive(  # lies inside the zip, and was once a download of its own
    "101_ObjectCategories.tar.gz",
    "https://data.caltech.edu/records/mzrjq-6wc02",
    "b224c7392d521a49829488ab0f1120d9",
    "101_ObjectCategories",
)
ARCHIVES = (PACKAGE, IMAGES)
EXCLUDED = {102: (), 101: ("BACKGROUND_Google",), 100: ("BACKGROUND_Google", "Faces_easy")}


def open_caltech(root: Path, part: str, classes: int = 101) -> ImageSet:
    """Returns the "train" or "test" images, drawn by a fixed seed, or "all" images, as files.

    `root` is caltech-101.zip, the 101_ObjectCategories.tar.gz in it, the folder
    101_ObjectCategories or another one of class folders, or a folder that holds one of these. The
    first of unpacked folder, archive and other class folders is read. Files out of an archive (130
    MB) stay in memory. Class names are those of the folders, sorted. Keys are "<class>/<image>".
    Raises ValueError for another number of classes, and `DataError` that names the file and the
    remedy.
    """
    if classes not in EXCLUDED:
        raise ValueError(
            f"classes is {classes}; Caltech-101 has 102 folders, 101 without BACKGROUND_Google, "
            "100 also without Faces_easy"
        )
    return draw_part(_read(root, EXCLUDED[classes]), part)


def _read(root: Path, skip: tuple[str, ...]) -> ImageSet:
    for folder in (root / IMAGES.top, root / PACKAGE.top / IMAGES.top):
        if folder.is_dir():
            return folder_set(folder, skip=skip)
    found = find_archive(ARCHIVES, root) or find_archive(ARCHIVES, root / PACKAGE.top)
    if found is not None:
        return _read_archive(*found, skip)
    if root.is_dir() and class_folders(root, skip):
        return folder_set(root, skip=skip)
    raise missing_data(PACKAGE, root, f"the folder {IMAGES.top}, or one folder of images per class")


def _read_archive(archive: Archive, path: Path, skip: tuple[str, ...]) -> ImageSet:
    def is_wanted(key: str) -> bool:
        name, _, image = key.partition("/")
        return is_image(image) and "/" not in image and name not in skip

    if archive == PACKAGE:
        with zipfile.ZipFile(path) as package:
            with package.open(f"{PACKAGE.top}/{IMAGES.file}") as inner:
                files = read_tar(inner, IMAGES.top, is_wanted)
    else:
        files = read_tar(path, IMAGES.top, is_wanted)
    if not files:
        raise DataError(f"{path}: holds no image in {IMAGES.top}/; download it again")
    keys = sorted(files, key=lambda key: (key.partition("/")[0], natural_key(key)))
    names = sorted({key.partition("/")[0] for key in keys})
    labels = np.searchsorted(names, [key.partition("/")[0] for key in keys])
    images = tuple(files[key] for key in keys)
    return ImageSet(images, labels, tuple(names), tuple(keys), str(path))
