"""Crops are drawn from an image's pixels, within the stated shares and shapes."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from data.views import RATIO, Crops, crop_box, draw_crop, make_views, random_view
from jclip.preprocess import make_preprocess, to_array
from kernels import cpu_operator

SEEDED = ["9eeaf634c6d0df1c", "fe34d84889e26103"]  # of views 1 and 2, with the pinned Pillow


def photo(width=60, height=40, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 1.0), (0.3, 0.3)])
def test_boxes_lie_within_the_image_and_the_bounds(scale):
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(500, 400, scale, rng) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all() and (boxes[:, 2] <= 500).all() and (boxes[:, 3] <= 400).all()
    share = width * height / 200_000
    # sides are rounded to pixels: half a pixel of 120, the shortest side there can be
    assert share.min() > scale[0] * 0.99 and share.max() < scale[1] * 1.01
    shape = width / height
    assert shape.min() > RATIO[0] * 0.99 and shape.max() < RATIO[1] * 1.01
    assert len(np.unique(boxes, axis=0)) > 400  # and they differ


@pytest.mark.parametrize(
    "size, box", [((900, 30), (430, 0, 470, 30)), ((30, 900), (0, 430, 30, 470)), ((1, 1), None)]
)
def test_a_long_image_gives_its_middle(size, box):
    actual = crop_box(*size, (0.9, 1.0), np.random.default_rng(0))
    assert actual == (box or (0, 0, 1, 1))


def test_a_crop_belongs_to_pixels_seed_and_view():
    crops = Crops((0.3, 1.0))
    first = random_view(photo(), 16, crops, 1, 3).tobytes()
    assert random_view(photo(), 16, crops, 1, 3).tobytes() == first
    others = [(photo(), 1, 4), (photo(), 2, 3), (photo(seed=1), 1, 3)]
    assert all(random_view(i, 16, crops, s, v).tobytes() != first for i, s, v in others)


def test_half_of_the_crops_are_mirrored_and_none_without_flip():
    image = photo()
    pairs = [
        [random_view(image, 16, Crops((0.5, 1.0), flip), 0, view) for flip in (False, True)]
        for view in range(200)
    ]
    mirrored = 0
    for plain, flipped in pairs:
        if plain.tobytes() != flipped.tobytes():
            mirrored += 1
            turned = plain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            assert turned.tobytes() == flipped.tobytes()
    assert 70 < mirrored < 130  # 100 expected, four standard deviations of a fair coin are 28


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_the_first_view_is_the_centre_view(mode):
    centre = make_preprocess(16)
    views = make_views(centre, to_array, 16, Crops(), 0, 3)(photo().convert(mode))
    assert views.shape == (3, 3, 16, 16) and views.dtype == np.float32
    assert views[0].tobytes() == centre(photo().convert(mode)).tobytes()
    assert (views[1] != views[0]).any() and (views[1] != views[2]).any()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
@pytest.mark.parametrize("precision", ["fp32", "plain"])
def test_each_further_view_is_the_random_view_of_its_number(mode, precision, monkeypatch):
    """All at once by our operator, or one by one by Pillow: the same bytes."""
    monkeypatch.setattr(cpu_operator, "precision", precision)
    image, crops = photo().convert(mode), Crops((0.08, 1.0))
    views = make_views(make_preprocess(16), to_array, 16, crops, 5, 9)(image)
    for view in range(1, 9):
        picture = random_view(image, 16, crops, 5, view)
        assert picture.mode == "RGB" and picture.size == (16, 16)
        assert views[view].tobytes() == to_array(picture).tobytes()


def test_an_image_is_converted_and_hashed_once(monkeypatch):
    image, calls = photo().convert("L"), []

    def noted(name: str):
        plain = getattr(Image.Image, name)

        def call(self, *arguments, **settings):
            calls.extend([name] * (self is image))
            return plain(self, *arguments, **settings)

        monkeypatch.setattr(Image.Image, name, call)

    noted("convert")
    noted("tobytes")
    make_views(lambda _: np.zeros((3, 8, 8), np.float32), to_array, 8, Crops(), 0, 9)(image)
    assert sorted(calls) == ["convert", "tobytes"]


def test_a_seed_draws_the_crops_that_it_always_drew():
    """These bytes are in every cache and result: a change of them changes what users measured."""
    views = [random_view(photo(), 16, Crops(), 0, view) for view in (1, 2)]
    assert [hashlib.sha256(view.tobytes()).hexdigest()[:16] for view in views] == SEEDED


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**40 + 1])
def test_a_crop_is_drawn_from_seed_view_and_digest(seed):
    digest, crops = bytes(range(32)), Crops()
    rng = np.random.default_rng((seed, 3, *digest))
    expected = crop_box(500, 400, crops.scale, rng), bool(rng.random() < 0.5)
    assert draw_crop(digest, (500, 400), crops, seed, 3) == expected


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.6, 0.5), (0.5, 1.2)])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale of the crops"):
        Crops(scale)
