"""`safe_load`: opens any supported weight file without torch, and without running anything in it.

The format is decided by content: a plain pickle (NumPy arrays, Jittor variables or torch tensors),
torch's zip, torch's older chain of pickles, TorchScript, or safetensors.
"""

import hashlib
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from weight_files import safetensors_file, torch_files
from weight_files.limits import MAX_STEPS, BadFile, Budget, Stream, UnsafeFile, one_line
from weight_files.rebuild import Rebuilder
from weight_files.tensors import Storage
from weight_files.unpickle import Machine

__all__ = ["BadFile", "UnsafeFile", "count_numbers", "safe_load"]

JITTOR_END = b"HCAJSLHD"  # `jt.save` appends a SHA-1 of 20 bytes and this
NOT_WEIGHTS = {  # first bytes of files that end up under a weight file's name
    b"version https://git-lfs": "is a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"<": "is a web page, so the download went wrong",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"\x89HDF": "is an HDF5 file, which is not supported",
}


def safe_load(path: str | Path) -> dict[str, Any]:
    """The dictionary in a weight file: arrays, numbers, text and containers of these.

    float16 stays, bfloat16 comes as float32; arrays are read-only views on what was read, or
    copies. Raises UnsafeFile where the file names anything but weights (nothing is run), BadFile
    where it is damaged or of another format; both are ValueErrors of one line. Raises OSError where
    it cannot be opened.
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):  # opening it would wait for a writer
        raise BadFile(f"{path} is a pipe, not a weight file")
    with open(path, "rb") as file:
        try:
            return _load(file)
        except UnsafeFile as error:
            reason = one_line(str(error))
            raise UnsafeFile(f"{path}: refused, nothing in it was run: {reason}") from None
        except BadFile as error:
            raise BadFile(f"{path} {one_line(str(error))}") from None
        except Exception as error:  # a damaged file may trip any step: all become one line
            detail = one_line(f"{type(error).__name__}: {error}")
            raise BadFile(f"{path} is damaged or not a weight file ({detail})") from error


def count_numbers(value: Any) -> int:
    """How many numbers the floating-point arrays in a file's contents hold: its parameters."""
    if isinstance(value, dict):
        return sum(count_numbers(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(count_numbers(item) for item in value)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return value.size if kind == "f" else 0


def _load(file: BinaryIO) -> dict[str, Any]:
    stream = Stream(file)
    budget = Budget(stream.size)
    start = file.read(24)
    file.seek(0)
    for bytes_, message in NOT_WEIGHTS.items():
        if start.startswith(bytes_):
            raise BadFile(message)
    if start.startswith(b"PK"):
        item = torch_files.read_zip(file, budget)
    elif safetensors_file.looks_like(start, stream.size):
        item = safetensors_file.read_safetensors(stream, budget)
    elif start.startswith(torch_files.LEGACY_START):
        item = torch_files.read_legacy(stream, budget)
    else:
        item = _read_pickle(file, stream, budget)
    if not isinstance(item, dict) or not all(isinstance(name, str) for name in item):
        raise BadFile(f"holds no dictionary by name, but {type(item).__name__}")
    _expanded(item, {})
    return item


def _expanded(item: object, known: dict[int, int]) -> int:
    """How many items a walk through the containers meets, each as often as it stands in others.

    A few lists that each hold the one before twice would keep every such walk busy for ever.
    """
    if not isinstance(item, dict | list | tuple):
        return 1
    if id(item) not in known:
        values = item.values() if isinstance(item, dict) else item
        known[id(item)] = 1 + sum(_expanded(value, known) for value in values)
        if known[id(item)] > MAX_STEPS:
            raise BadFile("holds the same containers within each other far too often")
    return known[id(item)]


def _read_pickle(file: BinaryIO, stream: Stream, budget: Budget) -> object:
    """The object of a plain pickle; the check sum of `jt.save` is verified where there is one."""
    _drop_checksum(file, stream)
    rebuilder = Rebuilder(budget, nested=partial(_nested, budget=budget))
    item = rebuilder.finish(Machine(stream, rebuilder).run())
    if stream.tell() != stream.size:
        raise BadFile(f"is damaged: {stream.size - stream.tell()} bytes follow the pickle")
    return item


def _nested(data: bytes, budget: Budget) -> Storage:
    """The storage in the bytes by which a plain pickle holds a torch tensor."""
    return torch_files.read_legacy(Stream(data), budget, nest=True)


def _drop_checksum(file: BinaryIO, stream: Stream) -> None:
    """Checks and hides the end that `jt.save` appends, if it is there."""
    if stream.size < 28:
        return
    file.seek(stream.size - 28)
    end = file.read(28)
    file.seek(0)
    if not end.endswith(JITTOR_END):
        return
    digest, left = hashlib.sha1(usedforsecurity=False), stream.size - 28
    while left:
        piece = file.read(min(left, 1 << 20))
        digest.update(piece)
        left -= len(piece)
    file.seek(0)
    if digest.digest() != end[:20]:
        raise BadFile("is damaged: its check sum is not that of its contents")
    stream.size -= 28
