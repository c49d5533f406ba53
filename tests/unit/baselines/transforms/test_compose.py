"""The composed transforms: shapes, ranges, and no randomness but the Generator's."""

import numpy as np
import pytest
from PIL import Image

from baselines.datasets import cifar
from baselines.datasets.registry import IMAGENET
from baselines.transforms import compose
from tests.helpers.golden import load_golden

CIFAR = cifar.NORMS["cifar10"]
PHOTO = Image.fromarray(load_golden("baselines/images")["image"]).resize((60, 45))
SMALL = PHOTO.resize((32, 32))
RANDOM = {
    "cifar_train": compose.cifar_transform(32, CIFAR),
    "weak": compose.weak_transform(32, CIFAR),
    "strong": compose.strong_transform(32, CIFAR),
    "simclr": compose.simclr_transform(32, CIFAR),
    "simclr_blurred": compose.simclr_transform(32, CIFAR, strength=1.0, blur=1.0),
    "photo_train": compose.photo_transform(32, CIFAR, erase=0.5, magnitude=9),
}


def test_normalisation_is_torchvisions():
    array = compose.Compose((), IMAGENET)(Image.fromarray(load_golden("baselines/images")["image"]))
    # float32 values up to 2.7, computed in the same order
    np.testing.assert_allclose(
        array, load_golden("baselines/images")["normalised"], rtol=0, atol=5e-7
    )


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("image", [SMALL, PHOTO, PHOTO.convert("L")], ids=["32", "60x45", "grey"])
def test_a_view_follows_from_the_generator(name, image):
    views = [RANDOM[name](image, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4)]
    for view in views:
        assert view.shape == (3, 32, 32) and view.dtype == np.float32 and np.isfinite(view).all()
        assert view.flags.c_contiguous
        assert np.abs(view).max() < 3
    assert views[0].tobytes() == views[1].tobytes()
    assert len({view.tobytes() for view in views}) > 1


def test_arrays_and_images_give_the_same():
    for transform in RANDOM.values():
        of_image, of_array = (
            transform(picture, np.random.default_rng(5)) for picture in (SMALL, np.asarray(SMALL))
        )
        assert of_image.tobytes() == of_array.tobytes()


def test_cifar_train_shifts_by_at_most_an_eighth_and_mirrors():
    table = CIFAR
    black = (0 - np.array(table[0])) / np.array(table[1])
    white = np.full((32, 32, 3), 255, np.uint8)
    for seed in range(50):
        view = compose.cifar_transform(32, CIFAR)(white, np.random.default_rng(seed))
        padded = np.isclose(view, black[:, None, None], atol=1e-5).all(0)
        assert padded.sum() <= 32 * 32 - 28 * 28
    flags = {
        bool(view[0, 16, 4] > view[0, 16, 28])
        for view in (
            compose.cifar_transform(32, CIFAR)(
                np.arange(0, 256, 8, dtype=np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2),
                np.random.default_rng(seed),
            )
            for seed in range(20)
        )
    }
    assert flags == {True, False}


def test_strong_cuts_out_what_weak_does_not():
    white = np.full((32, 32, 3), 255, np.uint8)
    holes = [
        (compose.strong_transform(32, CIFAR)(white, np.random.default_rng(seed)) == 0).all(0).sum()
        for seed in range(20)
    ]
    assert min(holes) >= 64 and max(holes) <= 256
    assert (compose.weak_transform(32, CIFAR)(white, np.random.default_rng(0)) != 0).all()


def test_simclr_keeps_its_cifar_settings_up_to_64_pixels():
    def names(transform):
        return [getattr(step, "func", step).__name__ for step in transform.operations]

    assert "random_gaussian_blur" not in names(compose.simclr_transform(64, CIFAR))
    assert "random_gaussian_blur" in names(compose.simclr_transform(65, CIFAR))
    strengths = [
        compose.simclr_transform(side, CIFAR).operations[2].keywords["strength"]
        for side in (64, 65)
    ]
    assert strengths == [0.5, 1.0]


def test_eval_transform_takes_the_middle_of_the_resized_image():
    image = Image.fromarray(np.zeros((40, 80, 3), np.uint8))
    image.paste((255, 255, 255), (20, 0, 60, 40))
    view = compose.eval_transform(20, CIFAR)(image)  # of 40 x 20 pixels, the middle 20
    assert view.shape == (3, 20, 20)
    assert (view[:, :, 3:-3] > 1.9).all()  # the rest is blurred by the resizing
    table = np.array(CIFAR)[:, :, None, None]
    same = compose.eval_transform(32, CIFAR)(SMALL)
    exact = (np.asarray(SMALL).transpose(2, 0, 1) / 255 - table[0]) / table[1]
    assert np.abs(same - exact).max() < 1e-6  # float32 around 2
