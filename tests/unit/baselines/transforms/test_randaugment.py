"""RandAugment's operations equal torchvision's, and are drawn with equal probability."""

import collections

import numpy as np
import pytest
from PIL import Image

from baselines.transforms.randaugment import OPERATIONS, SIGNED, operation_value, rand_augment
from tests.helpers.golden import load_golden

IMAGE = Image.fromarray(load_golden("baselines/images")["image"])
RESULTS = [name for name in load_golden("baselines/images") if name.split(".")[0] in OPERATIONS]


def test_every_operation_is_compared():
    assert {name.split(".")[0] for name in RESULTS} == set(OPERATIONS)
    signs = {name.split(".")[0] for name in RESULTS if ".-" in name}
    assert signs == SIGNED


@pytest.mark.parametrize("name", RESULTS)
def test_operation_is_torchvisions(name):
    operation, level = name.split(".")
    value = operation_value(operation, abs(int(level)), IMAGE.size)
    ours = OPERATIONS[operation](IMAGE, -value if int(level) < 0 else value)
    difference = np.abs(np.asarray(ours).astype(int) - load_golden("baselines/images")[name])
    # one level: torchvision keeps its values in float32, and blended levels are cut to integers
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_solarize_inverts_from_its_threshold_on():
    ours = OPERATIONS["Solarize"](IMAGE, 128)
    np.testing.assert_array_equal(np.asarray(ours), load_golden("baselines/images")["solarise.128"])


def count_operations(magnitude, draws=2000):
    """Returns how often each (operation, value) is applied."""
    counts = collections.Counter()
    originals = dict(OPERATIONS)
    try:
        for name in OPERATIONS:
            OPERATIONS[name] = lambda image, value, name=name: (
                counts.update([(name, value)]) or image
            )
        for seed in range(draws // 2):
            rand_augment(IMAGE, np.random.default_rng(seed), magnitude=magnitude)
    finally:
        OPERATIONS.update(originals)
    return counts


def test_operations_and_signs_are_drawn_evenly():
    counts = count_operations(9)
    assert counts.total() == 2000
    by_name = collections.Counter()
    for (name, _), times in counts.items():
        by_name[name] += times
    assert len(by_name) == 14 and 95 < min(by_name.values()) and max(by_name.values()) < 191
    rotations = {value: times for (name, value), times in counts.items() if name == "Rotate"}
    assert set(rotations) == {9.0, -9.0} and min(rotations.values()) > 40


def test_a_range_draws_its_own_magnitude_for_each_operation():
    thresholds = {value for (name, value) in count_operations((1, 30)) if name == "Solarize"}
    assert len(thresholds) > 25 and min(thresholds) == 0 and max(thresholds) <= 255 * 29 / 30


def test_the_same_generator_makes_the_same_image():
    first, again, other = (
        rand_augment(IMAGE, np.random.default_rng(seed), count=4).tobytes() for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("magnitude", [31, -1, (9, 3), (0, 31)])
def test_a_magnitude_outside_is_refused(magnitude):
    with pytest.raises(ValueError, match="magnitude is"):
        rand_augment(IMAGE, np.random.default_rng(0), magnitude=magnitude)
