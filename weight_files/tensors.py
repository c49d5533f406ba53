"""torch's tensors without torch: windows of a storage, turned into NumPy arrays within bounds.

A tensor is first only planned: its bytes may come later in the file (`torch.save` before 1.6) or
lie in another member of a zip (since 1.6).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from weight_files.limits import BadFile, Budget, checked, checked_sizes

STORAGES = {  # torch's storage classes and the NumPy type of their bytes; bfloat16 becomes float32
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "BoolStorage": "|b1",
}


@dataclass(eq=False)
class Storage:
    """A run of numbers that tensors look into; `data` is read when first needed."""

    kind: str  # a key of STORAGES
    key: str
    numel: int
    data: bytes | memoryview | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return np.dtype(STORAGES[self.kind]).itemsize


@dataclass(eq=False)
class Tensor:
    """A tensor to be: a window with this offset, shape and strides, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: object) -> Tensor:
    """What `torch._utils._rebuild_tensor_v2` stands for; gradient flags and hooks are left out."""
    checked_sizes((offset,)), checked_sizes(shape), checked_sizes(strides)
    if len(shape) != len(strides):
        raise BadFile(f"is damaged: shape {shape} has strides {strides}")
    return Tensor(checked(storage, Storage), offset, shape, strides)


def tensor_array(
    tensor: Tensor, read: Callable[[Storage], bytes | memoryview] | None, budget: Budget
) -> np.ndarray:
    """The array of a tensor: a view where the storage holds it in order, else a copy.

    `read` fetches a storage's bytes; None where all storages have theirs.
    """
    storage, dtype = tensor.storage, np.dtype(STORAGES[tensor.storage.kind])
    count = prod(tensor.shape)
    if storage.data is None and count and read:
        storage.data = read(storage)
    data = b"" if storage.data is None else storage.data  # b"" where no number is needed
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if count and last >= storage.numel:
        raise BadFile(f"is damaged: a tensor reaches element {last} of {storage.numel}")
    if not count:
        array = np.empty(tensor.shape, dtype)
    elif in_order(tensor):
        array = np.frombuffer(data, dtype, count, tensor.offset * dtype.itemsize)
        array = array.reshape(tensor.shape)
    else:
        budget.spend(count * dtype.itemsize, "a strided tensor")
        flat = np.frombuffer(data, dtype, storage.numel)[tensor.offset :]
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        array = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy()
    return widened(array, budget) if storage.kind == "BFloat16Storage" else array


def widened(bits: np.ndarray, budget: Budget) -> np.ndarray:
    """float32 numbers from the uint16 bits of bfloat16, which are the upper half of a float32."""
    budget.spend(bits.size * 4, "a bfloat16 tensor")
    wide = bits.astype(np.uint32)
    return np.left_shift(wide, np.uint32(16), out=wide).view(np.float32)


def in_order(tensor: Tensor) -> bool:
    """Whether the elements lie row by row without gaps."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
