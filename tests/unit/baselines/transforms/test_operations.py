"""Each operation equals torchvision's, if it has one, and draws by its documented rule."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from baselines.transforms import operations as ops
from tests.helpers.golden import load_golden

PIXELS = load_golden("baselines/images")["image"]  # [24,20,3]
IMAGE = Image.fromarray(PIXELS)
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


class Fixed:
    """Stands for a Generator whose draws are written down."""

    def __init__(self, **draws):
        self.draws = draws

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.draws[name]


def jittered(**factors):
    """The image under a jitter that drew exactly these factors (hue: a share)."""
    drawn = [factors.get(name, 1.0) for name in ENHANCERS] + [factors.get("hue", 0.0)]
    strengths = dict.fromkeys(factors, 0.5)
    return np.asarray(
        ops.colour_jitter(IMAGE, Fixed(uniform=drawn, permutation=range(4)), **strengths)
    )


@pytest.mark.parametrize(
    "name", [n for n in load_golden("baselines/images") if n.split(".")[0] in ENHANCERS]
)
def test_colours_are_torchvisions(name):
    change, factor = name.split(".", 1)
    np.testing.assert_array_equal(
        jittered(**{change: float(factor)}), load_golden("baselines/images")[name]
    )


@pytest.mark.parametrize(
    "name", [n for n in load_golden("baselines/images") if n.startswith("hue.")]
)
def test_hue_is_torchvisions(name):
    np.testing.assert_array_equal(
        jittered(hue=float(name.removeprefix("hue."))), load_golden("baselines/images")[name]
    )


@pytest.mark.parametrize(
    "name", [n for n in load_golden("baselines/images") if n.startswith("blur.")]
)
def test_blur_is_torchvisions(name):
    sigma, size = name.removeprefix("blur.").rsplit(".", 1)
    ours = ops.gaussian_blur(PIXELS, float(sigma), int(size)).astype(int)
    # one level: sums of float32 taken in another order, rounded to whole levels
    assert np.abs(ours - load_golden("baselines/images")[name]).max() <= 1
    assert (ours != load_golden("baselines/images")[name]).mean() < 0.01


def test_greyscale_is_torchvisions():
    grey = ops.random_greyscale(PIXELS, Fixed(random=0.1))
    np.testing.assert_array_equal(np.asarray(grey), load_golden("baselines/images")["greyscale"])


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_padded_crop_is_a_window_of_the_padded_image(mode):
    padded = load_golden("baselines/images")[f"pad.{mode}"]  # [32,28,3]
    for top in range(9):
        for left in range(9):
            cut = ops.random_padded_crop(IMAGE, Fixed(integers=(top, left)), padding=4, mode=mode)
            np.testing.assert_array_equal(cut, padded[top : top + 24, left : left + 20])


def test_padded_crop_reaches_every_place_evenly():
    ramp = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    rng = np.random.default_rng(0)
    counts = {}
    for _ in range(900):
        cut = ops.random_padded_crop(ramp, rng, padding=1).tobytes()
        counts[cut] = counts.get(cut, 0) + 1
    assert len(counts) == 9 and min(counts.values()) > 60  # 100 each, four deviations below


def test_padding_that_cannot_be_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="mode is 'edge'"):
        ops.random_padded_crop(PIXELS, rng, padding=2, mode="edge")
    with pytest.raises(ValueError, match="padding is 20"):
        ops.random_padded_crop(PIXELS, rng, padding=20)
    with pytest.raises(ValueError, match="hue is 0.7"):
        ops.colour_jitter(IMAGE, rng, hue=0.7)


def test_flip_of_both_kinds_is_the_same():
    for draw, expected in ((0.4, PIXELS[:, ::-1]), (0.6, PIXELS)):
        for picture in (PIXELS, IMAGE):
            flipped = np.asarray(ops.random_flip(picture, Fixed(random=draw)))
            np.testing.assert_array_equal(flipped, expected)


def test_jitter_takes_its_factors_within_bounds_and_orders_at_random():
    grey = np.full((4, 4, 3), 100, np.uint8)
    levels = [
        np.asarray(ops.colour_jitter(grey, np.random.default_rng(i), brightness=0.4)).max()
        for i in range(200)
    ]
    assert 60 <= min(levels) < 66 and 134 < max(levels) <= 140
    orders = {
        ops.colour_jitter(
            IMAGE, Fixed(uniform=[1.5, 0.5, 1.4, 0.1], permutation=order),
            brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1,
        ).tobytes()
        for order in ([0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0])
    }  # fmt: skip
    assert len(orders) == 3


def test_resized_crop_cuts_what_crop_box_draws():
    whole = ops.random_resized_crop(IMAGE, np.random.default_rng(0), side=8, scale=(0.1, 0.2))
    assert whole.size == (8, 8)
    means = {
        np.asarray(ops.random_resized_crop(IMAGE, np.random.default_rng(i), side=8)).mean()
        for i in range(10)
    }
    assert len(means) == 10
    assert ops.resize(PIXELS, side=9).size == (9, 9)
    assert ops.resize(IMAGE.crop((0, 0, 9, 9)), side=9).size == (9, 9)


def test_blur_takes_a_tenth_of_the_side():
    point = np.zeros((50, 60, 3), np.uint8)
    point[25, 30] = 255
    wide = ops.random_gaussian_blur(point, Fixed(random=0.1, uniform=2.0))
    rows, columns = np.nonzero(wide[:, :, 0])
    assert rows.min() == 23 and rows.max() == 27 and columns.min() == 28 and columns.max() == 32
    small = ops.random_gaussian_blur(point[10:29], Fixed(random=0.1, uniform=2.0))
    np.testing.assert_array_equal(small, point[10:29])  # 19 pixels: a kernel of one


def test_erasing_takes_its_share_and_leaves_the_input():
    array = np.ones((3, 40, 30), np.float32)
    rng = np.random.default_rng(0)
    shares, hit = [], 0
    for _ in range(400):
        erased = ops.random_erasing(array, rng)
        hole = erased[0] == 0
        assert (erased == erased[:1]).all()
        if hole.any():
            hit += 1
            rows, columns = np.nonzero(hole)
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert hole.sum() == height * width  # one rectangle
            assert 0.25 < height / width < 4  # .3 to 3.3, before rounding to pixels
            shares.append(hole.mean())
    assert array.all() and 160 < hit < 240  # 200, four deviations
    assert 0.01 < min(shares) < 0.05 and 0.28 < max(shares) < 0.35
    assert ops.random_erasing(array[:, :1, :1], rng, chance=1.0).all()  # nothing fits


def test_cutout_is_a_square_cut_by_the_border():
    array = np.ones((3, 32, 32), np.float32)
    sizes = {
        int((ops.cutout(array, np.random.default_rng(i), size=16)[0] == 0).sum())
        for i in range(300)
    }
    assert max(sizes) == 256 and min(sizes) < 100 and min(sizes) >= 64
    assert array.all()
