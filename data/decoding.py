"""Decodes image files. A broken file is a value that is counted, never a crash.

Pillow releases the interpreter's lock while it decodes, so that threads can use all cores.
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

# Tried whatever the suffix is. Some of Pillow's formats are left out: EPS would run Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
# Errors that may be gone a moment later; the last three come from network mounts.
TRANSIENT_ERRORS: tuple[int, ...] = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
TRANSIENT_ERRORS += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)
PILLOW = re.compile(r"PIL\.")  # the modules whose warnings are ignored
SLOW_S = 60.0  # a read that takes longer is reported

Result = TypeVar("Result")  # of transforming an image: an array, or several

_reads: dict[int, tuple[str, float]] = {}  # by thread: its file, and when its read began


class BrokenImage(Exception):
    """An image file that cannot be read, with its path and the cause in words."""

    def __init__(self, path: str | Path, cause: str):
        super().__init__(path, cause)
        self.path, self.cause = Path(path), cause

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.cause}")


@contextlib.contextmanager
def track_read(path: str | Path) -> Iterator[None]:
    """Records that this thread reads `path`, for `warn_on_stalled_reads`."""
    thread = threading.get_ident()
    _reads[thread] = str(path), time.monotonic()
    try:
        yield
    finally:
        del _reads[thread]


@contextlib.contextmanager
def warn_on_stalled_reads(limit_s: float = SLOW_S) -> Iterator[None]:
    """Names each file on stderr that is being read for longer than `limit_s` seconds, once.

    A disk or network mount that is gone may let its readers wait forever.
    """
    ended = threading.Event()

    def watch() -> None:
        reported: set[tuple[str, float]] = set()
        while not ended.wait(limit_s / 4):
            deadline = time.monotonic() - limit_s
            for read in {read for read in list(_reads.values()) if read[1] < deadline} - reported:
                reported.add(read)
                text = (
                    f"warning: {read[0]}: still being read after {limit_s:g} s: is its disk or "
                    "network mount there? Waiting; a second Ctrl-C ends this at once"
                )
                print(printable(text), file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def content_key(path: str | Path) -> str:
    """Returns the SHA-256 of the file's bytes, which identifies an image whatever its name."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait, a device may never end
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return _content_key(str(path), status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=2**17)
def _content_key(path: str, *version: int) -> str:
    """Reads each version of a file once per process."""
    with track_read(path):
        return sha256_of(path)


def content_key_or_error(path: str | Path) -> str:
    """Returns the content key, or the cause in words if the file cannot be opened."""
    try:
        return content_key(path)
    except OSError as error:
        return error.strerror or str(error)


def _quiet_pillow() -> None:
    """Ignores Pillow's own warnings (EXIF, palettes).

    The filter is never removed, because `warnings.catch_warnings` is not safe in threads.
    """
    if not any(rule[0] == "ignore" and rule[3] == PILLOW for rule in warnings.filters):
        warnings.filterwarnings("ignore", module=PILLOW.pattern)


def _open(file: Path | io.BytesIO) -> Image.Image:
    """Reads the header of an image.

    A damaged header may ask for any amount of memory: JPEG2000's reader trusts the sizes in it.
    """
    try:
        return Image.open(file, formats=FORMATS)
    except MemoryError as error:
        raise ValueError("its header asks for more memory than there is") from error


def decode(path: str | Path, content: bytes | None = None) -> Image.Image:
    """Returns the first frame of an image file, fully loaded, in its own mode, EXIF not applied.

    `content` are the file's bytes if it is in an archive; then `path` is only used in messages.
    Raises `BrokenImage` for all that cannot be read: missing, truncated, empty or forbidden files,
    text under an image's name, and images above Pillow's limit of pixels (decompression bombs).
    Errors that are not the file's fault (TRANSIENT_ERRORS, no memory left) are raised as OSError.
    """
    _quiet_pillow()
    path = Path(path)
    try:
        if content is None and path.exists() and not path.is_file():  # reading a pipe would wait
            raise BrokenImage(path, "is not a regular file")
        source = path if content is None else io.BytesIO(content)
        with track_read(path), _open(source) as image:
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
        if isinstance(error, OSError) and error.errno in TRANSIENT_ERRORS:
            raise
        strerror = error.strerror if isinstance(error, OSError) else None
        reason = strerror or str(error) or repr(error)
        reason = reason.replace(repr(str(path)), "the file").replace(str(path), "the file")
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "the file", reason)
        raise BrokenImage(path, f"{type(error).__name__}: {reason}") from error


def _no_memory(path: str | Path) -> OSError:
    reason = "no memory left for this image: take fewer --workers, or a smaller --prefetch"
    return OSError(errno.ENOMEM, reason, str(path))


def load_images(
    paths: Sequence[str | Path],
    transform: Callable[[Image.Image], Result],
    workers: int = 0,
    batch: int = 32,
) -> Iterator[tuple[int, Result | BrokenImage]]:
    """Yields (index, transform(image)) in the order of `paths`; a broken file yields its error.

    `workers` threads decode and transform; with 0 this happens inline, with the same results. At
    most `batch` images are decoded ahead. An image that `transform` refuses with a ValueError is
    broken too; its other errors are raised.
    """

    def load(path: str | Path) -> Result | BrokenImage:
        try:
            return transform(decode(path))
        except BrokenImage as error:
            return BrokenImage(error.path, error.cause)  # without its traceback, which keeps memory
        except ValueError as error:
            return BrokenImage(path, str(error))
        except MemoryError as error:
            raise _no_memory(path) from error

    yield from enumerate(map_in_order(load, paths, workers, max(batch, workers)))


def map_in_order(
    function: Callable, items: Sequence, workers: int, ahead: int | None = None
) -> Iterator:
    """Yields function(item) of each item in order, computed by `workers` threads.

    The threads work on up to `ahead` items in advance, by default two per thread. With 0 workers
    this happens inline, with the same results. Errors are raised. Raises Stopped when the program
    is asked to end, and then waits for no thread, because one may hang in a read.
    """
    if workers < 1:
        for item in items:
            check_stop()
            yield function(item)
        return
    pool, waits_for_threads = ThreadPoolExecutor(workers), True
    try:
        remaining = iter(items)
        futures: deque[Future] = deque()
        for _ in range(len(items)):
            free = (ahead or 2 * workers) - len(futures)
            for item in itertools.islice(remaining, free):
                futures.append(pool.submit(function, item))
            yield _wait_for_result(futures.popleft())
    except Stopped:
        waits_for_threads = False
        raise
    finally:
        pool.shutdown(wait=waits_for_threads, cancel_futures=True)


def _wait_for_result(future: Future) -> object:
    check_stop()
    while not future.done():
        wait([future], timeout=1.0)
        check_stop()
    return future.result()


def summarize_skipped(skipped: Sequence[tuple[str, str]], max_listed: int = 10) -> str:
    """Returns one line that counts the (name, cause) pairs and lists the first `max_listed`."""
    if not skipped:
        return "Every image could be read."
    listed = "; ".join(f"{name} ({cause})" for name, cause in skipped[:max_listed])
    more = f"; and {len(skipped) - max_listed} more" if len(skipped) > max_listed else ""
    images, were = ("1 image", "was") if len(skipped) == 1 else (f"{len(skipped)} images", "were")
    return printable(f"{images} could not be read and {were} skipped: {listed}{more}.")
