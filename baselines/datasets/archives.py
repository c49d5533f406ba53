"""The official archives of data sets: download, MD5 check, and reading without unpacking.

An archive is opened only after its MD5 is known to be the official one.
"""

import functools
import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from data.lists import DataError
from weight_files.download import download_file
from weight_files.hashing import digest_of

MAX_FILE_BYTES = 1 << 28  # of one file of an unpacked archive; CIFAR-100's largest has 155 MB


@dataclass(frozen=True)
class Archive:
    """One official file of a data set."""

    file: str
    url: str
    md5: str
    top: str
    """the folder in the archive that holds the data"""


def download(archive: Archive, root: str | Path) -> Path:
    """Downloads an archive into the folder `root` if it is not there yet, and returns its path.

    Draws a progress bar on a terminal and completes a partial file. One process downloads at a
    time. Raises ValueError that says which file to fetch by hand and where to put it if the
    download fails, and `DataError` if the file that is there has another MD5.
    """
    target = Path(root) / archive.file
    if not target.is_file():
        download_file(archive.file, archive.url, target, archive.md5, "md5", quiet=None)
    identify(target, (archive,))
    return target


def find_archive(archives: Sequence[Archive], root: Path) -> tuple[Archive, Path] | None:
    """Returns (archive, its path) if `root` is or holds one of the archives, else None.

    `root` itself may have any name; in a folder, an archive is found by its official name.
    Raises `DataError` if the MD5 of the file is not the official one.
    """
    if root.is_file():
        return identify(root, archives), root
    for archive in archives:
        path = root / archive.file
        if path.is_file():
            return identify(path, (archive,)), path
    return None


def identify(path: Path, archives: Sequence[Archive]) -> Archive:
    """Returns the archive that the file at `path` is by its MD5; raises `DataError` if none."""
    md5 = md5_of(path)
    for archive in archives:
        if archive.md5 == md5:
            return archive
    expected = " or ".join(archive.md5 for archive in archives)
    raise DataError(
        f"{path}: its MD5 is {md5}, not {expected}, so it is damaged or not the official archive; "
        f"move it away and download {archives[0].url}, or unpack it into folders"
    )


def md5_of(path: Path) -> str:
    """Returns the MD5 of a file as 32 hexadecimal digits."""
    status = os.stat(path)
    return _md5(str(path), status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=64)
def _md5(path: str, *version: int) -> str:
    """Reads each version of a file once per process."""
    return digest_of(path, "md5")


def read_tar(
    file: str | Path | IO[bytes], top: str, is_wanted: Callable[[str], bool]
) -> dict[str, bytes]:
    """Returns {path below the folder `top`: content} of the wanted files of a tar.gz."""
    contents = {}
    with open(file, "rb") if isinstance(file, str | Path) else file as opened:
        with tarfile.open(fileobj=opened, mode="r|gz") as tar:
            for member in tar:
                path = _path_below(top, member.name)
                extracted = tar.extractfile(member) if is_wanted(path) else None
                if extracted:  # None also for a folder
                    contents[path] = extracted.read()
    return contents


def read_zip(path: Path, top: str, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Returns {path below the folder `top`: content} of the wanted files of a zip."""
    with zipfile.ZipFile(path) as opened:
        paths = {_path_below(top, name): name for name in opened.namelist()}
        return {path: opened.read(name) for path, name in paths.items() if is_wanted(path)}


def _path_below(top: str, name: str) -> str:
    """Returns the path of a member below the folder `top`, or "" for a member outside of it."""
    return name.removeprefix(f"{top}/") if name.startswith(f"{top}/") else ""


def missing_data(archive: Archive, root: Path, alternatives: str) -> DataError:
    """Returns the error for a folder that holds no form of a data set."""
    return DataError(
        f"{root}: the data set is not there; put {archive.file} there (from {archive.url}, MD5 "
        f"{archive.md5}), or {alternatives}"
    )
