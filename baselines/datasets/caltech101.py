"""Caltech-101 (Fei-Fei et al. 2004): photos of 101 kinds of objects, and a folder of clutter.

The field counts its classes in three ways, so the number is a choice here and stands beside every
figure: 102 folders; 101 without BACKGROUND_Google, the clutter; 100 also without Faces_easy, which
shows the photos of Faces cut closer. There is no official split (see `baselines.datasets.splits`).
"""

from pathlib import Path

import numpy as np

from baselines.datasets.archive_members import open_in_zip, read_tar
from baselines.datasets.archives import archives_of, find_archive, missing
from baselines.datasets.image_sets import ImageSet, class_folders, folder_set
from data.folders import is_image, natural_key
from data.lists import DataError

NAME = "caltech101"
LEFT_OUT = {102: (), 101: ("BACKGROUND_Google",), 100: ("BACKGROUND_Google", "Faces_easy")}


def open_caltech(root: str | Path, classes: int = 101) -> ImageSet:
    """All images of the data set as files, by class, then by name in natural order.

    `root` is caltech-101.zip, the 101_ObjectCategories.tar.gz in it, the folder
    101_ObjectCategories or another one of class folders, or a folder that holds one of these. Taken
    is the first there is: unpacked, archive, other class folders. Out of an archive, the files (130
    MB) are held in memory. Class names are those of the folders, sorted; a folder of fewer classes
    has those it has. Keys are "<class>/<image>".
    Raises ValueError for another number of classes, `DataError` naming the file and the remedy.
    """
    if classes not in LEFT_OUT:
        raise ValueError(
            f"classes is {classes}; Caltech-101 has 102 folders, 101 without BACKGROUND_Google, "
            "100 also without Faces_easy"
        )
    root, skip = Path(root), LEFT_OUT[classes]
    package, inner = archives_of(NAME)
    for folder in (root / inner.top, root / package.top / inner.top):
        if folder.is_dir():
            return folder_set(folder, skip=skip)
    for place in (root, root / package.top):
        found = find_archive(NAME, place)
        if found is not None:
            return _from_archive(found[1], found[0] == package, inner.top, inner.file, skip)
    if root.is_dir() and class_folders(root, skip):
        return folder_set(root, skip=skip)
    raise missing(NAME, root, f"the folder {inner.top}, or one folder of images a class")


def _from_archive(path: Path, nested: bool, top: str, inner: str, skip: tuple) -> ImageSet:
    def wanted(key: str) -> bool:
        name, _, image = key.partition("/")
        return is_image(image) and "/" not in image and name not in skip

    if nested:
        with open_in_zip(path, inner) as file:
            files = read_tar(file, top, wanted, name=f"{path}: {inner}")
    else:
        files = read_tar(path, top, wanted)
    if not files:
        raise DataError(f"{path}: holds no image in {top}/; download it again")
    keys = sorted(files, key=lambda key: (key.partition("/")[0], natural_key(key)))
    names = sorted({key.partition("/")[0] for key in keys})
    labels = np.searchsorted(names, [key.partition("/")[0] for key in keys])
    images = tuple(files[key] for key in keys)
    return ImageSet(images, labels, tuple(names), tuple(keys), str(path))
