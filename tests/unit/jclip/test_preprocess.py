"""Pixels against OpenAI's transform, and photos that are hard to crop to a square."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.seeded_inputs import photo
from jclip.preprocess import MEAN, STD, make_preprocess
from runtime.paths import ROOT

GOLDEN = ROOT / "tests/golden/clip/pixels.json"


def test_pixels_equal_openai():
    for entry in json.loads(GOLDEN.read_text()):
        pixels = make_preprocess(entry["resolution"])(photo(*entry["photo"]))
        assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"], entry["photo"]


def test_short_side_and_centre():
    """Twice as wide as high: the middle half stays, and nothing is squashed."""
    columns = np.zeros((32, 64, 3), np.uint8)
    columns[:, 16:48] = 255
    pixels = make_preprocess(32)(Image.fromarray(columns))
    np.testing.assert_array_equal(
        pixels, np.broadcast_to(((1 - MEAN) / STD)[:, None, None], (3, 32, 32))
    )


def test_orientation_in_exif_is_ignored():
    image, file = photo("RGB", 40, 60, 1), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    image.save(file, "png", exif=exif)
    turned = Image.open(file)
    assert turned.getexif()[0x0112] == 6
    np.testing.assert_array_equal(make_preprocess(32)(turned), make_preprocess(32)(image))


def test_one_pixel_wide():
    assert make_preprocess(224)(photo("RGB", 1, 50, 1)).shape == (3, 224, 224)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_sliver_is_refused_with_its_size(size):
    with pytest.raises(ValueError, match=f"too narrow: {size[0]} x {size[1]} pixels.*crop it"):
        make_preprocess(224)(Image.new("RGB", size))


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="empty: 0 x 5 pixels"):
        make_preprocess(224)(Image.new("RGB", (0, 5)))
