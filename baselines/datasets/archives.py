"""The official archives of the data sets: where they are, by which MD5 they are known, fetching.

Addresses and MD5s are those of the makers' pages: https://www.cs.toronto.edu/~kriz/cifar.html,
http://cs231n.stanford.edu/tiny-imagenet-200.zip, https://data.caltech.edu/records/mzrjq-6wc02.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from data.lists import DataError
from weight_files.download import download_file
from weight_files.hashing import digest_of

KRIZ = "https://www.cs.toronto.edu/~kriz"


@dataclass(frozen=True)
class Archive:
    """One official file: its name, address and MD5, and the folder that its files stand in."""

    file: str
    url: str
    md5: str
    top: str


ARCHIVES: dict[str, tuple[Archive, ...]] = {  # the first is downloaded, all of them are read
    "cifar10": (
        Archive(
            "cifar-10-python.tar.gz",
            f"{KRIZ}/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py",
        ),
        Archive(
            "cifar-10-binary.tar.gz",
            f"{KRIZ}/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
        ),
    ),
    "cifar100": (
        Archive(
            "cifar-100-python.tar.gz",
            f"{KRIZ}/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python",
        ),
        Archive(
            "cifar-100-binary.tar.gz",
            f"{KRIZ}/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-binary",
        ),
    ),
    "tiny_imagenet": (
        Archive(
            "tiny-imagenet-200.zip",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            "tiny-imagenet-200",
        ),
    ),
    "caltech101": (
        Archive(
            "caltech-101.zip",
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip?download=1",
            "3138e1922a9193bfa496528edbbc45d0",
            "caltech-101",
        ),
        Archive(  # lies inside the zip, and was once offered by itself
            "101_ObjectCategories.tar.gz",
            "https://data.caltech.edu/records/mzrjq-6wc02",
            "b224c7392d521a49829488ab0f1120d9",
            "101_ObjectCategories",
        ),
    ),
}


def archives_of(name: str) -> tuple[Archive, ...]:
    """The archives of a data set; raises ValueError naming those there are."""
    if name not in ARCHIVES:
        raise ValueError(f"no archive is known of {name!r}; there are {', '.join(ARCHIVES)}")
    return ARCHIVES[name]


def download(name: str, root: str | Path) -> Path:
    """The official archive of a data set in the folder `root`, downloaded where it is not there.

    Draws a progress bar on a terminal, goes on with what an earlier run left, lets one process
    download at a time, and checks the MD5 of what came or was there. Raises ValueError that says
    what to fetch elsewhere, where to put it, and its MD5, where the download fails.
    """
    archive = archives_of(name)[0]
    target = Path(root) / archive.file
    if not target.is_file():
        download_file(name, archive.url, target, archive.md5, "md5", quiet=None)
    verify(target, archive)
    return target


def find_archive(name: str, root: str | Path) -> tuple[Archive, Path] | None:
    """(archive, where it lies), its MD5 verified: `root` itself or in the folder `root`, else None.

    Raises `DataError` where a file of that name is another one.
    """
    root = Path(root)
    for archive in archives_of(name):
        path = root if root.is_file() else root / archive.file
        if path.is_file() and (path.name == archive.file or md5_of(path) == archive.md5):
            verify(path, archive)
            return archive, path
    return None


def verify(path: Path, archive: Archive) -> None:
    """Raises `DataError` with the remedy where a file does not have the archive's MD5."""
    md5 = md5_of(path)
    if md5 != archive.md5:
        raise DataError(
            f"{path}: is cut off, damaged or another file: its MD5 is {md5}, not {archive.md5}; "
            f"move it away and fetch {archive.url} again"
        )


def md5_of(path: Path) -> str:
    """MD5 of a file's content, 32 hexadecimal digits."""
    found = os.stat(path)
    return _md5(str(path), found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=64)
def _md5(path: str, *version: int) -> str:
    """Read once a process for each version of a file."""
    return digest_of(path, "md5")


def missing(name: str, root: str | Path, also: str) -> DataError:
    """The error for a folder that holds a data set in no form; `also` names the other forms."""
    archive = archives_of(name)[0]
    return DataError(
        f"{root}: holds no {name}; put {archive.file} there (from {archive.url}, MD5 "
        f"{archive.md5}), {also}"
    )
