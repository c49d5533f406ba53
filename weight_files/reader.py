"""`safe_load` opens any supported weight file without torch, and without running code from it.

The content decides the format: a plain pickle (NumPy arrays, Jittor variables or torch tensors),
torch's zip, torch's older chain of pickles, TorchScript, or safetensors.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from weight_files.allow_list import AllowList
from weight_files.limits import MAX_STEPS, BadFile, Budget, Stream, UnsafeFile, to_one_line
from weight_files.pickle_machine import PickleMachine
from weight_files.tensors import Storage

LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # `torch.save` before 1.6 begins so
JITTOR_END = b"HCAJSLHD"  # `jt.save` appends a SHA-1 of 20 bytes and this
JITTOR_END_BYTES = 28
MAX_HEADER = 10_000_000  # bytes of JSON in safetensors, for 100,000 tensors; parsed 30 times that
NOT_WEIGHTS = {  # first bytes of other files that get a weight file's name
    b"version https://git-lfs": "is a Git LFS pointer; fetch the file itself with `git lfs pull`",
    b"<": "is a web page, so the download went wrong",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"\x89HDF": "is an HDF5 file, which is not supported",
}


def safe_load(path: str | Path) -> dict[str, Any]:
    """Returns the dictionary in a weight file: arrays, numbers, text and containers of these.

    float16 stays, and bfloat16 becomes float32. Arrays are read-only views on the bytes read, or
    copies. Raises UnsafeFile if the file names anything but weights (nothing is run), and BadFile
    if it is damaged or of another format; both are ValueErrors of one line. Raises OSError if it
    cannot be opened.
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):  # opening it would wait for a writer
        raise BadFile(f"{path} is a pipe, not a weight file")
    with open(path, "rb") as file:
        try:
            return _load(file)
        except UnsafeFile as error:
            reason = to_one_line(str(error))
            raise UnsafeFile(f"{path}: refused, nothing in it was run: {reason}") from None
        except BadFile as error:
            raise BadFile(f"{path} {to_one_line(str(error))}") from None
        except Exception as error:  # a damaged file may fail at any step: all become one line
            detail = to_one_line(f"{type(error).__name__}: {error}")
            raise BadFile(f"{path} is damaged or not a weight file ({detail})") from error


def unpickle(content: bytes) -> Any:
    """Returns the object of a pickle in memory, under the same allow-list and limits as a file.

    Raises UnsafeFile, BadFile, or another exception if the pickle is damaged.
    """
    return _unpickle(Stream(content), Budget(len(content)))


def count_parameters(value: Any) -> int:
    """Returns how many numbers the floating-point arrays in a file's contents hold."""
    if isinstance(value, dict):
        return sum(count_parameters(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(count_parameters(item) for item in value)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return value.size if kind == "f" else 0


def _load(file: BinaryIO) -> dict[str, Any]:
    stream = Stream(file)
    budget = Budget(stream.size)
    start = file.read(24)
    header_bytes = int.from_bytes(start[:8], "little")  # if it is safetensors
    file.seek(0)
    for first_bytes, message in NOT_WEIGHTS.items():
        if start.startswith(first_bytes):
            raise BadFile(message)
    if start.startswith(b"PK"):
        from weight_files.torch_files import read_zip  # each run imports what its files need

        item = read_zip(file, budget)
    elif start[8:9] == b"{" and header_bytes <= min(stream.size - 8, MAX_HEADER):
        from weight_files.safetensors_file import read_safetensors

        item = read_safetensors(stream, budget)
    elif start.startswith(LEGACY_START):
        from weight_files.torch_files import read_legacy

        item = read_legacy(stream, budget)
    else:
        _drop_checksum(file, stream)
        item = _unpickle(stream, budget)
        if stream.tell() != stream.size:
            raise BadFile(f"is damaged: {stream.size - stream.tell()} bytes follow the pickle")
    if not isinstance(item, dict) or not all(isinstance(name, str) for name in item):
        raise BadFile(f"holds no dictionary by name, but {type(item).__name__}")
    _check_expansion(item, {})
    return item


def _unpickle(stream: Stream, budget: Budget) -> Any:
    def read_nested(data: bytes) -> Storage:
        from weight_files.torch_files import read_nested_storage

        return read_nested_storage(data, budget)

    allow_list = AllowList(budget, nested=read_nested)
    return allow_list.finish(PickleMachine(stream, allow_list).run())


def _check_expansion(item: object, counts: dict[int, int]) -> int:
    """Returns how many items a walk through the containers meets; raises BadFile if too many.

    An item counts once for each container that holds it. A few lists that each hold the previous
    one twice would otherwise keep every such walk busy for ever.
    """
    if not isinstance(item, dict | list | tuple):
        return 1
    if id(item) not in counts:
        values = item.values() if isinstance(item, dict) else item
        counts[id(item)] = 1 + sum(_check_expansion(value, counts) for value in values)
        if counts[id(item)] > MAX_STEPS:
            raise BadFile("holds the same containers within each other far too often")
    return counts[id(item)]


def _drop_checksum(file: BinaryIO, stream: Stream) -> None:
    """Verifies and hides the checksum that `jt.save` appends, if it is there."""
    length = stream.size - JITTOR_END_BYTES
    if length < 0:
        return
    file.seek(length)
    end = file.read(JITTOR_END_BYTES)
    file.seek(0)
    if not end.endswith(JITTOR_END):
        return
    digest, left = hashlib.sha1(usedforsecurity=False), length
    while left:
        chunk = file.read(min(left, 1 << 20))
        digest.update(chunk)
        left -= len(chunk)
    file.seek(0)
    if digest.digest() != end[:20]:
        raise BadFile("is damaged: its checksum is not that of its contents")
    stream.size = length
