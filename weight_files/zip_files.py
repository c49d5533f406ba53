"""Opening zips that nobody vouches for: in the memory that their sizes promise, and no more."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

MAX_DIRECTORY = 32 << 20  # bytes, in memory 20 times that; Tiny-ImageNet's members take 14 MB
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # lzma may ask for 4 GiB before its first byte
# What a damaged zip raises; the last four come of encrypted, unknown and absurd members.
DAMAGED: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, EOFError, struct.error)
DAMAGED += (OSError, NotImplementedError, RuntimeError, ValueError)


@contextmanager
def opened_zip(source: str | Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    """A zip for reading; raises `zipfile.BadZipFile` where its list of members is absurdly long."""
    internals: Any = zipfile  # what it has beside its documented names
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        end = internals._EndRecData(file)  # by which ZipFile goes, and would read all of it
        if end and end[internals._ECD_SIZE] > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has {end[internals._ECD_SIZE]} bytes")
        with zipfile.ZipFile(file) as archive:
            yield archive


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, its check sum verified; raises `zipfile.BadZipFile` where it is wrong.

    `ZipFile.read` would unpack up to 2 GiB before it looked at the size that the member declares.
    """
    if member.compress_type not in PLAIN:
        raise zipfile.BadZipFile(f"{member.filename} is compressed in a way that is not supported")
    with archive.open(member) as opened:
        data = opened.read(member.file_size)
    if len(data) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    return data
