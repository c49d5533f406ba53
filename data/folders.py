"""The images and folders in a folder: one order everywhere, junk left out.

Junk is what archives and desktops leave behind: `__MACOSX/`, `._*`, every other hidden name, and
`Thumbs.db`.
"""

import os
import re
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


def natural_key(name: str) -> tuple:
    """Sort key that puts image_2 before image_10; equal numbers fall back to the text itself."""
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def is_junk(name: str) -> bool:
    """Whether a file or folder of this base name is never data."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db")


def is_image(name: str) -> bool:
    """Whether a base name is an image's, by its suffix in any case."""
    return not is_junk(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_folder(folder: str | Path) -> tuple[list[str], list[str]]:
    """Base names of the sub-folders and of the images directly in `folder`, in natural order.

    A dangling link counts as an image, so that it is reported as broken and not passed over.
    """
    folders, images = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                folders.append(entry.name)
            elif is_image(entry.name) and (entry.is_symlink() or entry.is_file()):
                images.append(entry.name)
    folders = [name for name in folders if not is_junk(name)]
    return sorted(folders, key=natural_key), sorted(images, key=natural_key)


def walk_images(folder: str | Path) -> list[str]:
    """Paths of all images below `folder`, relative to it, in natural order.

    Links are followed unless they lead back up, so a loop ends.
    """
    found: list[str] = []

    def visit(path: str, prefix: str, above: tuple[str, ...]) -> None:
        real = os.path.realpath(path)
        if real in above:
            return
        folders, images = list_folder(path)
        found.extend(prefix + name for name in images)
        for name in folders:
            visit(os.path.join(path, name), f"{prefix}{name}/", (*above, real))

    visit(str(folder), "", ())
    return sorted(found, key=natural_key)
