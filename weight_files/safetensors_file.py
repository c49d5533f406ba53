"""Reads `.safetensors`: eight bytes of header length, a JSON header, then the numbers.

Format: https://huggingface.co/docs/safetensors. Read here because the package's NumPy side has no
bfloat16.
"""

import json
from math import prod

import numpy as np

from weight_files.limits import BadFile, Budget, Stream, checked, checked_sizes
from weight_files.tensors import widened

MAX_HEADER = 10_000_000  # bytes, 100,000 tensors; read as JSON it may take 30 times that
KINDS = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
}


def looks_like(start: bytes, size: int) -> bool:
    """Whether a file of this size with these first nine bytes can be a safetensors file."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= min(size - 8, MAX_HEADER)


def read_safetensors(stream: Stream, budget: Budget) -> dict[str, np.ndarray]:
    """All tensors by name, read-only; bfloat16 comes as float32."""
    length = int.from_bytes(stream.take(8, "its header length"), "little")
    header = json.loads(bytes(stream.take(length, "its header")), object_pairs_hook=_unique)
    header.pop("__metadata__", None)
    header = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    arrays, position = {}, 0
    for name, entry in header:
        begin, end = entry["data_offsets"]
        if begin != position:
            raise BadFile(f"is damaged: {name:.80} does not begin where the tensor before it ends")
        if entry["dtype"] not in KINDS:
            raise BadFile(f"has {name:.80} of type {entry['dtype']!s:.20}, which is not supported")
        dtype, shape = np.dtype(KINDS[entry["dtype"]]), checked_sizes(tuple(entry["shape"]))
        if checked(end, int) - begin != prod(shape) * dtype.itemsize:
            raise BadFile(f"is damaged: {name:.80} has {end - begin} bytes for shape {shape}")
        data = stream.take(end - begin, name[:80])
        array = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
        array = array.reshape(shape)
        arrays[name] = widened(array, budget) if entry["dtype"] == "BF16" else array
        position = end
    if stream.tell() != stream.size:
        raise BadFile(f"is damaged: {stream.size - stream.tell()} bytes follow the last tensor")
    return arrays


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose names are all different."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadFile("is damaged: its header has a name twice")
    return result
