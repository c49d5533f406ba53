"""Errors, limits and bounded reading of weight files from strangers."""

import io
import os
from typing import BinaryIO, TypeVar

MAX_FILE_BYTES = 8 << 30  # the largest CLIP in fp32 takes 4 GiB; the rest is room for an optimizer
EXPANSION = 4  # decoded tensors may take this many times the file (fp16 to fp32 takes 2) ...
EXPANSION_ROOM = 256 << 20  # ... and this many bytes more
MAX_STEPS = 1_000_000  # pickle operations, a few seconds; a ViT-B/32 takes up to 26,000
MAX_DEPTH = 64  # containers within containers
MAX_LINE = 4096  # bytes of a text argument, such as a class name
MAX_ERROR = 300  # characters of an error message that come from the file

T = TypeVar("T")


class UnsafeFile(ValueError):
    """The file asks for code, or for an object that no weight file needs; nothing was run."""


class BadFile(ValueError):
    """The file is damaged, cut off, or not a supported weight file."""


class Budget:
    """The operations and bytes that reading one file may still cost; the limits follow its size."""

    def __init__(self, file_bytes: int) -> None:
        if file_bytes > MAX_FILE_BYTES:
            raise BadFile(f"has {file_bytes} bytes, more than the {MAX_FILE_BYTES} that are read")
        self.steps = MAX_STEPS
        self.bytes = min(MAX_FILE_BYTES, EXPANSION * file_bytes + EXPANSION_ROOM)

    def count_step(self) -> None:
        """Counts one operation; raises BadFile after more than MAX_STEPS."""
        self.steps -= 1
        if self.steps < 0:
            raise BadFile(f"takes more than {MAX_STEPS} operations to read")

    def spend(self, count: int, purpose: str) -> None:
        """Counts bytes that will be allocated for `purpose`; raises BadFile beyond the limit."""
        if count > self.bytes:
            raise BadFile(f"declares {count} bytes for {purpose}, out of proportion to the file")
        self.bytes -= count


class Stream:
    """A file, or bytes in memory, read from front to back and never past its end."""

    def __init__(self, source: BinaryIO | bytes) -> None:
        self._memory: memoryview | None = None
        self._file: BinaryIO
        if isinstance(source, bytes):
            self._memory, self._file = memoryview(source), io.BytesIO(source)
            self.size = len(source)
        else:
            self._file, self.size = source, os.fstat(source.fileno()).st_size

    def tell(self) -> int:
        """Returns the number of bytes read so far."""
        return self._file.tell()

    def read(self, count: int) -> bytes:
        """Returns at most `count` bytes, fewer at the end, and allocates no more than is there."""
        return self._file.read(max(0, min(count, self.size - self.tell())))

    def readline(self) -> bytes:
        """Returns one line of at most MAX_LINE bytes."""
        return self._file.readline(max(0, min(MAX_LINE, self.size - self.tell())))

    def read_exactly(self, count: int, what: str) -> bytes | memoryview:
        """Returns exactly `count` bytes, without a copy if they are in memory.

        Raises BadFile if the file is cut off; `what` names the bytes in the message.
        """
        start = self.tell()
        if not 0 <= count <= self.size - start:
            raise BadFile(f"is cut off: {what} needs {count} bytes, {self.size - start} are left")
        if self._memory is None:
            return self._file.read(count)
        self._file.seek(start + count)
        return self._memory[start : start + count]


def to_one_line(text: str, most: int = MAX_ERROR) -> str:
    """Returns a text from a strange file as one line of at most `most` characters.

    Characters that a terminal does not show as they are get escaped.
    """
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def describe(value: object) -> str:
    """Returns the start of a text for an error message; of other values the type only.

    The text of another value may be endless.
    """
    return value[:40] if isinstance(value, str) else type(value).__name__


def require_type(value: object, kind: type[T]) -> T:
    """Returns the value; raises BadFile if it is of another type."""
    if not isinstance(value, kind):
        raise BadFile(f"is damaged: {type(value).__name__} instead of {kind.__name__}")
    return value


def require_sizes(sizes: tuple) -> tuple[int, ...]:
    """Returns sizes, strides or offsets; raises BadFile unless they are at most 32 of 63 bits."""
    if type(sizes) is not tuple or len(sizes) > 32:
        raise BadFile("is damaged: a shape is not a short tuple")
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
        raise BadFile("is damaged: a shape holds something other than sizes")
    return sizes
