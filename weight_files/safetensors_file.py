"""Reads `.safetensors`: eight bytes with the header's length, a JSON header, then the numbers.

Format: https://huggingface.co/docs/safetensors. The package's own NumPy reader has no bfloat16.
"""

import json
from math import prod

import numpy as np

from weight_files.limits import BadFile, Budget, Stream, require_sizes, require_type
from weight_files.tensors import bf16_to_float32

DTYPES = {"BOOL": "|b1", "U8": "|u1", "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
DTYPES |= {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}


def read_safetensors(stream: Stream, budget: Budget) -> dict[str, np.ndarray]:
    """Returns all tensors by name, read-only; bfloat16 becomes float32."""
    length = int.from_bytes(stream.read_exactly(8, "its header length"), "little")
    text = bytes(stream.read_exactly(length, "its header"))
    header = json.loads(text, object_pairs_hook=_build_object)
    header.pop("__metadata__", None)
    arrays, position = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != position:
            raise BadFile(f"is damaged: {name:.80} does not follow the previous tensor")
        if entry["dtype"] not in DTYPES:
            raise BadFile(f"has {name:.80} of type {entry['dtype']!s:.20}, which is not supported")
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), require_sizes(tuple(entry["shape"]))
        if require_type(end, int) - begin != prod(shape) * dtype.itemsize:
            raise BadFile(f"is damaged: {name:.80} has {end - begin} bytes for shape {shape}")
        data = stream.read_exactly(end - begin, name[:80])
        array = np.frombuffer(data, dtype).reshape(shape) if data else np.empty(shape, dtype)
        arrays[name] = bf16_to_float32(array, budget) if entry["dtype"] == "BF16" else array
        position = end
    if stream.tell() != stream.size:
        raise BadFile(f"is damaged: {stream.size - stream.tell()} bytes follow the last tensor")
    return arrays


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns a JSON object; raises BadFile if a name occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadFile("is damaged: its header has a name twice")
    return result
