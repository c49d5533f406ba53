"""Crops of one photo have exactly the pixels of Pillow's."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kernels import resample

ROOT = Path(resample.__file__).parents[1]
TABLE = np.arange(768, dtype=np.float32).reshape(3, 256)  # each level has its own value


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Returns [H,W,3] of noise; every third seed gives only black and white, which overshoots."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels if seed % 3 else np.where(pixels < 128, 0, 255).astype(np.uint8)


def by_pillow(pixels: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    cut = Image.fromarray(pixels).crop(tuple(box[:4].tolist()))
    cut = cut.resize((side, side), Image.Resampling.BICUBIC)
    if box[4]:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    levels = np.asarray(cut).transpose(2, 0, 1)
    return np.stack([TABLE[channel][levels[channel]] for channel in range(3)])


def crops(pixels: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    out = np.empty((len(boxes), 3, side, side), np.float32)
    resample.resize_crops(pixels, boxes, TABLE, out)
    return out


def random_boxes(height: int, width: int, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, 1))
    across = [sorted(rng.choice(width + 1, 2, replace=False)) for _ in range(count)]
    down = [sorted(rng.choice(height + 1, 2, replace=False)) for _ in range(count)]
    pairs = zip(across, down, strict=True)
    boxes = [(x[0], y[0], x[1], y[1], rng.integers(2)) for x, y in pairs]
    return np.array(boxes, np.int32)


@pytest.mark.parametrize("seed", range(60))
def test_crops_are_those_of_pillow(seed):
    """Covers smaller and larger crops, mirrored or not, of any shape."""
    height, width, side = np.random.default_rng((seed, 0)).integers(1, [400, 400, 260]).tolist()
    pixels, boxes = photo(height, width, seed), random_boxes(height, width, 5, seed)
    for actual, box in zip(crops(pixels, boxes, side), boxes, strict=True):
        assert actual.tobytes() == by_pillow(pixels, box, side).tobytes(), (
            height,
            width,
            box,
            side,
        )


@pytest.mark.parametrize(
    "height, width, side",
    [
        (1, 1, 7),  # one pixel
        (224, 224, 224),  # nothing to do
        (64, 128, 64),  # one axis changes, in whole blocks
        (301, 224, 224),  # vertical only
        (300, 100, 150),  # vertical first: one axis grows, one shrinks
        (276, 250, 224),  # 52 rows fewer is not more than twice 26 columns fewer: horizontal first
        (277, 250, 224),  # 53 rows fewer is more: vertical first
        (2000, 1500, 32),  # a large photo
        (1, 900, 16),
        (900, 1, 16),
    ],
)
def test_shapes_at_the_edges(height, width, side):
    pixels = photo(height, width, 1)
    boxes = np.array([(0, 0, width, height, mirrored) for mirrored in (0, 1)], np.int32)
    for actual, box in zip(crops(pixels, boxes, side), boxes, strict=True):
        assert actual.tobytes() == by_pillow(pixels, box, side).tobytes()


def test_threads_share_nothing():
    photos = [photo(211, 307, seed) for seed in range(24)]
    boxes = random_boxes(211, 307, 6, 0)
    alone = [crops(pixels, boxes, 56).tobytes() for pixels in photos]
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda pixels: crops(pixels, boxes, 56).tobytes(), photos))
    assert actual == alone


def test_too_little_memory_is_an_error_of_python():
    """A limit of the address space stands in for a machine without free memory."""
    code = """
import resource, sys
import numpy as np
import runtime
from kernels import resample
table, out = np.zeros((3, 256), "f4"), np.zeros((1, 3, 8, 8), "f4")
box = np.array([(0, 0, 4, 4, 0)], np.int32)
resample.resize_crops(np.zeros((8, 8, 3), np.uint8), box, table, out)
pixels = np.zeros((20_000, 10_000, 3), np.uint8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
try:
    resample.resize_crops(pixels, box, table, out)
except MemoryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("crops of a photo of 10000 x 20000 pixels\n"), done.stderr


@pytest.mark.parametrize(
    "box", [(-1, 0, 4, 4, 0), (0, 0, 9, 4, 0), (3, 0, 3, 4, 0), (0, 2, 4, 7, 0), (0, 5, 4, 5, 0)]
)
def test_a_box_outside_the_photo_is_refused(box):
    with pytest.raises(AssertionError):
        crops(photo(6, 8, 1), np.array([box], np.int32), 4)
