"""Opens zips from strangers, within the memory that their declared sizes promise."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

MAX_DIRECTORY = 32 << 20  # bytes of the list of members, which takes 20 times that in memory
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # lzma may ask for 4 GiB at once
# What a damaged zip raises; the last four come from encrypted, unknown and absurd members.
ZIP_ERRORS: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, EOFError, struct.error)
ZIP_ERRORS += (OSError, NotImplementedError, RuntimeError, ValueError)


@contextmanager
def open_zip(source: str | Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Opens a zip for reading; raises `zipfile.BadZipFile` if its list of members is too long."""
    internals: Any = zipfile  # undocumented names that `ZipFile` itself uses
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        end = internals._EndRecData(file)  # `ZipFile` would read a directory of any size
        if end and end[internals._ECD_SIZE] > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has {end[internals._ECD_SIZE]} bytes")
        with zipfile.ZipFile(file) as archive:
            yield archive


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Returns the bytes of a member; raises `zipfile.BadZipFile` if its checksum is wrong.

    `ZipFile.read` would unpack up to 2 GiB before it looks at the size that the member declares.
    """
    if member.compress_type not in COMPRESSIONS:
        raise zipfile.BadZipFile(f"{member.filename} is compressed in a way that is not supported")
    with archive.open(member) as opened:
        data = opened.read(member.file_size)
    if len(data) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} is cut off")
    return data
