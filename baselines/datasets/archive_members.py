"""Files out of tar and zip archives that nobody vouches for: into memory, never onto the disk.

A member whose path leaves its folder, and a link or device in the place of a file that is wanted,
are errors; other members are passed over. Sizes are checked before memory is taken.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath

from baselines.datasets.tar_stream import TarStream
from data.lists import DataError
from weight_files import zip_files
from weight_files.zip_files import opened_zip, read_member

Source = str | Path | io.BufferedIOBase  # a path, or a file that is open for reading

MAX_MEMBER = 1 << 28  # bytes of one file; the largest of an official archive has 155 MB
MAX_TOTAL = 1 << 29  # bytes read from one archive; Tiny-ImageNet has 240 MB
MAX_STREAM = 1 << 29  # bytes that a tar unpacks to, wanted or not
MAX_COUNT = 1 << 18  # members; Tiny-ImageNet has 120,000
MAX_NAME = 1024  # characters
MAX_RATIO = 4  # of an archive in an archive, which is compressed already
DAMAGED: tuple[type[Exception], ...] = (tarfile.TarError, *zip_files.DAMAGED)


@contextmanager
def readable(name: Source) -> Iterator[None]:
    """Turns whatever a damaged archive raises into one `DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:  # the disk's fault
            raise
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(
            f"{name}: is damaged, cut off or no archive ({detail}); move it away and download it "
            "again"
        ) from error


class Taken:
    """What has been read from one archive: its files by path below `top`, within the limits."""

    def __init__(self, name: Source, top: str, wanted: Callable[[str], bool]) -> None:
        self.name, self.top, self.wanted = name, f"{top}/" if top else "", wanted
        self.files: dict[str, bytes] = {}
        self.total = self.count = 0

    def path(self, member: str) -> str | None:
        """The path below `top` of a member that is wanted, else None; refuses hostile paths."""
        self.count += 1
        if self.count > MAX_COUNT or len(member) > MAX_NAME:
            wrong = f"holds more than {MAX_COUNT} members"
            if len(member) > MAX_NAME:
                wrong = f"has a name of {len(member)} characters in it, more than {MAX_NAME}"
            raise DataError(f"{self.name}: {wrong}; download it again from the official site")
        parts = re.split(r"[/\\]", member)
        if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", member) or "\0" in member:
            raise DataError(
                f"{self.name}: its member {member[:80]!r} leads out of the archive's folder; "
                "download it again from the official site"
            )
        inside = str(PurePosixPath(member))
        path = inside.removeprefix(self.top)
        return path if inside.startswith(self.top) and self.wanted(path) else None

    def check(self, path: str, size: int, regular: bool) -> None:
        """Refuses what is no file, comes twice or is too large, before it is read."""
        self.total += size
        wrong = None
        if not regular:
            wrong = "is a link or a device"
        elif re.search("[\\x00-\\x1f\\x7f]", path):
            wrong = "has control characters in its name"
        elif path in self.files:
            wrong = "comes twice"
        elif size > MAX_MEMBER or self.total > MAX_TOTAL:
            wrong = f"has {size} bytes, {self.total} with those before it: more than is read"
        if wrong:
            raise DataError(
                f"{self.name}: its member {self.top}{path} {wrong}; "
                "download it again from the official site"
            )


def read_tar(
    source: Source,
    top: str,
    wanted: Callable[[str], bool],
    count: int | None = None,
    name: str | Path | None = None,
) -> dict[str, bytes]:
    """{path below the folder `top`: content} of the wanted files of a tar, gzipped or not.

    Reads no further once there are `count` of them, nor checks gzip's sum then. `name` is what
    errors call an open file. Raises `DataError` for a damaged archive and for hostile members,
    OSError where it cannot be opened.
    """
    path = name if name is not None else source
    taken = Taken(path, top, wanted)
    with readable(path), _unzipped(source) as file:
        archive = TarStream(file, MAX_STREAM)
        for member in archive:
            key = taken.path(member.name)
            if key is None or member.is_folder:
                continue
            taken.check(key, member.size, member.is_file)
            taken.files[key] = archive.content()
            if len(taken.files) == count:
                return taken.files
        archive.finish()
    return taken.files


@contextmanager
def _unzipped(source: Source) -> Iterator[io.BufferedIOBase]:
    """A file for reading from front to back, through gzip where it begins as gzip does."""
    opened: AbstractContextManager[io.BufferedIOBase] = (
        open(source, "rb") if isinstance(source, str | Path) else nullcontext(source)
    )
    with opened as file:
        buffered = io.BufferedReader(file)
        zipped = buffered.peek(2)[:2] == b"\x1f\x8b"
        yield gzip.GzipFile(fileobj=buffered) if zipped else buffered
        buffered.detach()


def read_zip(path: str | Path, top: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """{path below the folder `top`: content} of the wanted files of a zip; as `read_tar`."""
    taken = Taken(path, top, wanted)
    with readable(path), opened_zip(path) as archive:
        for member in archive.infolist():
            key = taken.path(member.orig_filename)
            if key is None or member.is_dir():
                continue
            taken.check(key, member.file_size, _is_file(member))
            taken.files[key] = read_member(archive, member)
    return taken.files


@contextmanager
def open_in_zip(path: str | Path, base: str) -> Iterator[io.BufferedIOBase]:
    """The one member of a zip with this base name, open for reading: an archive in an archive."""
    taken = Taken(path, "", lambda member: PurePosixPath(member).name == base)
    with readable(path), opened_zip(path) as archive:
        found = [m for m in archive.infolist() if taken.path(m.orig_filename) and not m.is_dir()]
        found = [m for m in found if not m.filename.startswith("__MACOSX")]
        if len(found) != 1 or not _is_file(found[0]):
            raise DataError(
                f"{path}: holds {len(found)} files {base} instead of one; "
                "download it again from the official site"
            )
        if found[0].file_size > MAX_RATIO * found[0].compress_size + MAX_NAME:
            raise DataError(f"{path}: {base} in it is no archive; download it again")
        with archive.open(found[0]) as file:
            assert isinstance(file, zipfile.ZipExtFile)  # as any member opened for reading
            yield file


def _is_file(member: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the zip was made without modes
    return kind in (0, stat.S_IFREG)
