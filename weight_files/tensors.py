"""torch's tensors without torch: windows of a storage, turned into NumPy arrays within bounds.

A tensor is first only planned: its bytes may come later in the file (`torch.save` before 1.6) or
lie in another member of a zip (since 1.6).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from weight_files.limits import BadFile, Budget, require_sizes, require_type

# torch's storage classes and NumPy's type of their bytes; BFloat16Storage becomes float32
STORAGE_TYPES = {"HalfStorage": "<f2", "BFloat16Storage": "<u2", "FloatStorage": "<f4"}
STORAGE_TYPES |= {"DoubleStorage": "<f8", "ByteStorage": "|u1", "CharStorage": "|i1"}
STORAGE_TYPES |= {"ShortStorage": "<i2", "IntStorage": "<i4", "LongStorage": "<i8"}
STORAGE_TYPES["BoolStorage"] = "|b1"


@dataclass(eq=False)
class Storage:
    """A run of numbers that tensors are windows of; `data` is read when first needed."""

    kind: str  # a key of STORAGE_TYPES
    key: str
    numel: int
    data: bytes | memoryview | None = None

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(STORAGE_TYPES[self.kind])


@dataclass(eq=False)
class TensorPlan:
    """A tensor that is not read yet: a window of a storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def is_contiguous(self) -> bool:
        """Returns whether the elements lie row by row without gaps."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


def plan_tensor(
    storage: Storage, offset: int, shape: tuple, strides: tuple, *_: object
) -> TensorPlan:
    """Stands in for `torch._utils._rebuild_tensor_v2`; ignores gradient flags and hooks."""
    for sizes in ((offset,), shape, strides):
        require_sizes(sizes)
    if len(shape) != len(strides):
        raise BadFile(f"is damaged: shape {shape} has strides {strides}")
    return TensorPlan(require_type(storage, Storage), offset, shape, strides)


def tensor_to_array(
    tensor: TensorPlan, read: Callable[[Storage], bytes | memoryview] | None, budget: Budget
) -> np.ndarray:
    """Returns the array of a tensor: a view if the storage holds it in order, else a copy.

    `read` fetches a storage's bytes; it is None if all storages have theirs.
    """
    storage, dtype = tensor.storage, tensor.storage.dtype
    count = prod(tensor.shape)
    if storage.data is None and count and read:
        storage.data = read(storage)
    data = b"" if storage.data is None else storage.data  # b"" if no number is needed
    pairs = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    if count and last >= storage.numel:
        raise BadFile(f"is damaged: a tensor reaches element {last} of {storage.numel}")
    if not count:
        array = np.empty(tensor.shape, dtype)
    elif tensor.is_contiguous():
        flat = np.frombuffer(data, dtype, count, tensor.offset * dtype.itemsize)
        array = flat.reshape(tensor.shape)
    else:
        budget.spend(count * dtype.itemsize, "a strided tensor")
        flat = np.frombuffer(data, dtype, storage.numel)[tensor.offset :]
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        array = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy()
    return bf16_to_float32(array, budget) if storage.kind == "BFloat16Storage" else array


def bf16_to_float32(bits: np.ndarray, budget: Budget) -> np.ndarray:
    """Returns float32 numbers for the uint16 bits of bfloat16, the upper half of a float32."""
    budget.spend(bits.size * 4, "a bfloat16 tensor")
    wide = bits.astype(np.uint32)
    return np.left_shift(wide, np.uint32(16), out=wide).view(np.float32)
