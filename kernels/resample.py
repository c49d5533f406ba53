"""Bicubic crops of one photo, pixel for pixel those of Pillow, without Python's lock.

The plain reference is Pillow's `resize`, as `data.views` calls it under `--kernels jittor`.
"""

import ctypes
from functools import cache

import numpy as np

from kernels import cpu_operator


def resize_crops(pixels: np.ndarray, boxes: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Fills out[P,3,R,R] float32 with P crops of pixels[H,W,3] uint8, resized to R x R.

    boxes: [P,5] int32, each (left, top, right, bottom, mirrored or not), within the photo.
    table: [3,256] float32, the output value of each level of each channel. Any thread may call.
    The call takes twice the photo's bytes of memory. Raises MemoryError.
    """
    arrays = [(pixels, np.uint8), (boxes, np.int32), (table, np.float32), (out, np.float32)]
    assert all(array.dtype == kind and array.flags.c_contiguous for array, kind in arrays)
    height, width, _ = pixels.shape
    left, top, right, bottom, _ = boxes.T
    assert (0 <= left).all() and (left < right).all() and (right <= width).all()
    assert (0 <= top).all() and (top < bottom).all() and (bottom <= height).all()
    pixels_p, boxes_p, table_p, out_p = (array.ctypes.data for array, _ in arrays)
    side = out.shape[-1]
    if compiled_function()(pixels_p, height, width, boxes_p, len(boxes), side, table_p, out_p):
        raise MemoryError(f"crops of a photo of {width} x {height} pixels")


@cache
def compiled_function():
    """Returns the C++ function. The first call compiles it, in the thread that uses Jittor."""
    address = cpu_operator.function_address(("lanes", "resample"), "resample::resize_crops")
    pointer, number = ctypes.c_void_p, ctypes.c_long
    kinds = [pointer, number, number, pointer, number, number, pointer, pointer]
    return ctypes.CFUNCTYPE(number, *kinds)(address)
