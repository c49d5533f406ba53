"""A tar read from front to back, by its format's description and no further.

Python's `tarfile` follows sparse maps, sizes below zero and endless extended headers wherever they
lead. Known here are files, folders, long names (GNU's and pax's), and links and devices by kind.
https://www.gnu.org/software/tar/manual/html_node/Standard.html and pax(1) describe the format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from tarfile import ReadError

BLOCK = 512  # bytes of a header; contents are filled up to a multiple
PIECE = 1 << 20  # bytes that are passed over at once
MAX_EXTENSION = 1 << 16  # bytes of a long name or of a pax header
FILE, FOLDER = (b"0", b"\0", b"7"), b"5"
WITHOUT_DATA = (b"1", b"2", b"3", b"4", FOLDER, b"6")  # links, devices, folders, pipes


@dataclass(frozen=True)
class Member:
    """What a header says of the file behind it."""

    name: str
    kind: bytes
    size: int

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file, not a link, a device or a folder."""
        return self.kind in FILE

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; older archives mark it by the end of its name alone."""
        return self.kind == FOLDER or self.name.endswith("/")


class TarStream:
    """The members of a tar in their order, of which at most `most` bytes are read.

    Raises `tarfile.ReadError` where it is damaged, cut off or larger, or holds a sparse file.
    """

    def __init__(self, file: BufferedIOBase, most: int) -> None:
        self.file, self.left = file, most
        self.unread = self.padding = 0  # of the member that came last

    def __iter__(self) -> Iterator[Member]:
        name, size, header = None, None, self._take(BLOCK)
        if not header:
            raise ReadError("empty file")
        while header.strip(b"\0"):
            found = parsed(header)
            if found.kind in b"LKxg":
                extension = self._extension(found.size)
                if found.kind == b"L":
                    name = text(extension)
                elif found.kind == b"x":
                    name, size = pax(extension, name)
            else:
                found = Member(name or found.name, found.kind, found.size if size is None else size)
                self._begin(0 if found.kind in WITHOUT_DATA else found.size)
                yield found
                name = size = None
                self._pass_over(self.unread + self.padding)
            header = self._take(BLOCK)

    def content(self) -> bytes:
        """The bytes of the member that came last."""
        data = self._take(self.unread)
        if len(data) < self.unread:
            raise ReadError("unexpected end of data")
        self.unread = 0
        return data

    def finish(self) -> None:
        """Reads to the end, where the check sum of gzip stands."""
        while self._take(PIECE):
            pass

    def _begin(self, size: int) -> None:
        self.unread, self.padding = size, -size % BLOCK
        if size > self.left:
            raise ReadError(f"a member of {size} bytes, more than is read")

    def _extension(self, size: int) -> bytes:
        if size > MAX_EXTENSION:
            raise ReadError(f"a name or extended header of {size} bytes")
        self._begin(size)
        content = self.content()
        self._pass_over(self.padding)
        return content

    def _pass_over(self, count: int) -> None:
        while count:
            data = self._take(min(count, PIECE))
            if not data:
                raise ReadError("unexpected end of data")
            count -= len(data)

    def _take(self, count: int) -> bytes:
        if not count:
            return b""
        data = self.file.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise ReadError("the archive unpacks to more than is read")
        return data


def parsed(header: bytes) -> Member:
    """The member of a header of 512 bytes."""
    if len(header) < BLOCK:
        raise ReadError("unexpected end of data")
    others, stored = header[:148] + b" " * 8 + header[156:], number(header[148:156])
    if stored != sum(others):
        above = sum(byte > 127 for byte in others)
        if stored != sum(others) - 256 * above:  # old tars took bytes for signed
            raise ReadError("bad checksum of a header")
    kind, name = header[156:157], text(header[:100])
    if kind == b"S":
        raise ReadError("a sparse file")
    if header[257:263] == b"ustar\0" and header[345] and kind not in b"LKxg":
        name = f"{text(header[345:500])}/{name}"
    return Member(name, kind, number(header[124:136]))


def number(field: bytes) -> int:
    """A number in octal digits, or in base 256 where its first bit says so; never below zero."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise ReadError("a size below zero")
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip() or b"0"
    if digits.strip(b"01234567"):
        raise ReadError("a size that is no number")
    return int(digits, 8)


def text(field: bytes) -> str:
    """A name up to its NUL; bytes that are not UTF-8 stay as the file system keeps them."""
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def pax(content: bytes, name: str | None) -> tuple[str | None, int | None]:
    """(name, size) of the next member by a pax header: lines "17 path=some/name"."""
    size = None
    while content:
        length, space, _ = content[:20].partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length) <= len(content):
            raise ReadError("a damaged pax header")
        line, content = content[len(length) + 1 : int(length)], content[int(length) :]
        key, _, value = line.removesuffix(b"\n").partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise ReadError("a sparse file")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise ReadError("a size that is no number")
            size = int(value)
    return name, size
