"""Lists the images and folders in a folder, in one order everywhere and without junk.

Junk is what archives and desktops leave behind: `__MACOSX/`, `Thumbs.db`, and all hidden names.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


def natural_key(name: str) -> tuple:
    """Returns a sort key that puts image_2 before image_10; equal numbers compare as text."""
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def is_junk(name: str) -> bool:
    """Returns whether a file or folder of this base name is never data."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db")


def is_image(name: str) -> bool:
    """Returns whether a base name has an image's suffix, in any case."""
    return not is_junk(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_folder(folder: str | Path) -> tuple[list[str], list[str]]:
    """Returns the base names of the folders and of the images in `folder`, in natural order.

    A dangling link counts as an image, so that it is reported as broken and not ignored.
    """
    folders, images = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                if not is_junk(entry.name):
                    folders.append(entry.name)
            elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                images.append(entry.name)
    return sorted(folders, key=natural_key), sorted(images, key=natural_key)


def class_folders(folder: str | Path, skip: Sequence[str] = ()) -> dict[str, list[str]]:
    """Returns {class: base names of its images}, sorted, of a folder with one folder per class.

    Leaves out folders without an image and folders whose name is in `skip`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return {}
    names = sorted(name for name in list_folder(folder)[0] if name not in skip)
    classes = {name: list_folder(folder / name)[1] for name in names}
    return {name: images for name, images in classes.items() if images}


def walk_images(folder: str | Path) -> list[str]:
    """Returns the paths of all images below `folder`, relative to it, in natural order.

    Links are followed unless they lead to a parent folder, so that a loop ends.
    """
    names: list[str] = []

    def visit(path: str, prefix: str, parents: tuple[str, ...]) -> None:
        real = os.path.realpath(path)
        if real in parents:
            return
        folders, images = list_folder(path)
        names.extend(prefix + name for name in images)
        for name in folders:
            visit(os.path.join(path, name), f"{prefix}{name}/", (*parents, real))

    visit(str(folder), "", ())
    return sorted(names, key=natural_key)
