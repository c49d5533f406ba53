"""Bicubic crops of one photo at once, pixel for pixel those of Pillow, with no lock held."""

import ctypes
from functools import cache

import numpy as np

from kernels import cpu_operator


def views(pixels: np.ndarray, boxes: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Fills out[P,3,R,R] float32 with P crops of pixels[H,W,3] uint8, resized to R x R.

    boxes[P,5] int32: (left, top, right, bottom, mirrored or not) each, within the photo.
    table[3,256] float32: what each level of a channel becomes. Any thread may call.
    Raises MemoryError; takes twice the photo's bytes for the time of the call.
    """
    arrays = [(pixels, np.uint8), (boxes, np.int32), (table, np.float32), (out, np.float32)]
    assert all(each.dtype == kind and each.flags.c_contiguous for each, kind in arrays)
    height, width, _ = pixels.shape
    left, top, right, bottom, _ = boxes.T
    assert (0 <= left).all() and (left < right).all() and (right <= width).all()
    assert (0 <= top).all() and (top < bottom).all() and (bottom <= height).all()
    at = [each.ctypes.data for each, _ in arrays]
    if function()(at[0], height, width, at[1], len(boxes), out.shape[-1], at[2], at[3]):
        raise MemoryError(f"crops of a photo of {width} x {height} pixels")


@cache
def function():
    """The compiled function; the first call compiles it, in the thread that uses Jittor."""
    address = cpu_operator.address(("lanes", "resample"), "resample::views")
    pointer, number = ctypes.c_void_p, ctypes.c_long
    kinds = [pointer, number, number, pointer, number, number, pointer, pointer]
    return ctypes.CFUNCTYPE(number, *kinds)(address)
