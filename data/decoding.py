"""From image files to arrays: a broken file is a value that is counted, never a crash.

Pillow releases the interpreter's lock while it decodes, so threads are enough to use all cores.
"""

import contextlib
import errno
import functools
import io
import itertools
import os
import re
import stat
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from PIL import Image

from runtime.files import printable
from runtime.signals import Stopped, check_stop
from weight_files.hashing import sha256_of

# Tried whatever the suffix says. Not all that Pillow knows: for EPS it would run Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# may be well a moment later; the last three are a network mount's
PASSING: tuple[int, ...] = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
PASSING += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)
PILLOW = re.compile(r"PIL\.")  # the modules whose warnings pass in silence
SLOW_S = 60.0  # a read that takes longer is named

Made = TypeVar("Made")  # what is made of an image: an array, or several

_reads: dict[int, tuple[str, float]] = {}  # each thread's file, and when its read began


class BrokenImage(Exception):
    """An image file that cannot be read: its path, and the cause in words."""

    def __init__(self, path: str | Path, cause: str):
        super().__init__(path, cause)
        self.path, self.cause = Path(path), cause

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.cause}")


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Within, this thread reads `path`: for `warn_on_stalled_reads`."""
    thread = threading.get_ident()
    _reads[thread] = str(path), time.monotonic()
    try:
        yield
    finally:
        del _reads[thread]


@contextlib.contextmanager
def warn_on_stalled_reads(limit_s: float = SLOW_S) -> Iterator[None]:
    """Within, a file that is being read for `limit_s` is named on stderr, once: a disk or a network
    mount that is gone may let its readers wait for ever.
    """
    ended = threading.Event()

    def watch() -> None:
        named: set[tuple[str, float]] = set()
        while not ended.wait(limit_s / 4):
            late = time.monotonic() - limit_s
            for read in {read for read in list(_reads.values()) if read[1] < late} - named:
                named.add(read)
                print(
                    printable(
                        f"warning: {read[0]}: still being read after {limit_s:g} s: is its disk or "
                        "network mount there? Waiting; a second Ctrl-C ends this at once"
                    ),
                    file=sys.stderr,
                    flush=True,
                )

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def content_key(path: str | Path) -> str:
    """SHA-256 of the file's bytes: what an image is known by, whatever its name."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device read for ever
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return _content_key(str(path), found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=2**17)
def _content_key(path: str, *version: int) -> str:
    """Read once a process for each version of a file."""
    with reading(path):
        return sha256_of(path)


def known_as(path: str | Path) -> str:
    """The content key; of a file that cannot be opened, the cause in words."""
    try:
        return content_key(path)
    except OSError as error:
        return error.strerror or str(error)


def _quiet_pillow() -> None:
    """Lets Pillow's own warnings (EXIF, palettes) pass in silence.

    The filter is added and never taken away: `warnings.catch_warnings` is not safe in threads.
    """
    if not any(rule[0] == "ignore" and rule[3] == PILLOW for rule in warnings.filters):
        warnings.filterwarnings("ignore", module=PILLOW.pattern)


def _opened(file: Path | io.BytesIO) -> Image.Image:
    """The image with its header read, which takes little memory unless the file lies: JPEG2000's
    reader asks for as much as a box says it holds.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except MemoryError as error:
        raise ValueError("its header asks for more memory than there is") from error


def decode(path: str | Path, content: bytes | None = None) -> Image.Image:
    """The first frame of an image file, fully loaded, in the file's own mode, EXIF not applied.

    content: what the file holds, where it lies in an archive; `path` then only names it.
    Raises `BrokenImage` for whatever cannot be read: missing, truncated, empty or forbidden files,
    text under an image's name, and images over Pillow's limit of pixels (decompression bombs).
    What is no fault of the file passes through (PASSING); no memory left is an OSError too.
    """
    _quiet_pillow()
    path = Path(path)
    try:
        if content is None and path.exists() and not path.is_file():  # a pipe would wait for ever
            raise BrokenImage(path, "is not a regular file")
        opened = path if content is None else io.BytesIO(content)
        with reading(path), _opened(opened) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise BrokenImage(path, f"{image.width} x {image.height} pixels, over {limit}")
            image.load()
            return image
    except BrokenImage:
        raise
    except MemoryError as error:
        raise _no_memory(path) from error
    except Exception as error:  # damaged files raise nearly any type: struct.error, KeyError, ...
        if isinstance(error, OSError) and error.errno in PASSING:
            raise
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)
        reason = reason.replace(repr(str(path)), "the file").replace(str(path), "the file")
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "the file", reason)
        raise BrokenImage(path, f"{type(error).__name__}: {reason}") from error


def _no_memory(path: str | Path) -> OSError:
    reason = "no memory left for this image: take fewer --workers, or a smaller --prefetch"
    return OSError(errno.ENOMEM, reason, str(path))


def load_images(
    paths: Sequence[str | Path],
    transform: Callable[[Image.Image], Made],
    workers: int = 0,
    batch: int = 32,
) -> Iterator[tuple[int, Made | BrokenImage]]:
    """Yields (index, transform(image)) in the order of `paths`; a broken file yields its error.

    `workers` threads decode and transform; 0 does it inline, with the same results. At most
    `batch` images are ahead of the reader, however many there are. An image that `transform`
    refuses with a ValueError is broken too; any other error of it passes through.
    """

    def load(path: str | Path) -> Made | BrokenImage:
        try:
            return transform(decode(path))
        except BrokenImage as error:
            return BrokenImage(error.path, error.cause)  # without the traceback and what it holds
        except ValueError as error:
            return BrokenImage(path, str(error))
        except MemoryError as error:
            raise _no_memory(path) from error

    yield from enumerate(in_order(load, paths, workers, max(batch, workers)))


def in_order(
    function: Callable, items: Sequence, workers: int, ahead: int | None = None
) -> Iterator:
    """function(item) of each, in order, by threads that stay `ahead` items before the reader, by
    default two for each.

    0 workers does it inline, with the same results. An error passes through. Raises Stopped where
    the program was asked to end, and then waits for no thread: one may hang in a read.
    """
    if workers < 1:
        for item in items:
            check_stop()
            yield function(item)
        return
    pool, patient = ThreadPoolExecutor(workers), True
    try:
        remaining = iter(items)
        begun: deque[Future] = deque()
        for _ in range(len(items)):
            wanted = (ahead or 2 * workers) - len(begun)
            begun.extend(
                pool.submit(function, item) for item in itertools.islice(remaining, wanted)
            )
            yield _result(begun.popleft())
    except Stopped:
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


def _result(future: Future) -> object:
    check_stop()
    while not future.done():
        wait([future], timeout=1.0)
        check_stop()
    return future.result()


def skipped_summary(skipped: Sequence[tuple[str, str]], most: int = 10) -> str:
    """One paragraph of (name, cause) pairs for the end of a run: how many, and the first `most`."""
    if not skipped:
        return "Every image could be read."
    listed = "; ".join(f"{name} ({cause})" for name, cause in skipped[:most])
    more = f"; and {len(skipped) - most} more" if len(skipped) > most else ""
    images, were = ("1 image", "was") if len(skipped) == 1 else (f"{len(skipped)} images", "were")
    return printable(f"{images} could not be read and {were} skipped: {listed}{more}.")
