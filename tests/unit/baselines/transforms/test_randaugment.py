"""RandAugment's operations are torchvision's; what is drawn is what it says."""

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
    apart = np.abs(np.asarray(ours).astype(int) - load_golden("baselines/images")[name])
    # one level: torchvision keeps its amounts in float32, and blended levels are cut to integers
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


def test_solarize_inverts_from_its_threshold_on():
    ours = OPERATIONS["Solarize"](IMAGE, 128)
    np.testing.assert_array_equal(np.asarray(ours), load_golden("baselines/images")["solarise.128"])


def counted(magnitude, draws=2000):
    """How often each (operation, amount) came, by watching them."""
    found = collections.Counter()
    kept = dict(OPERATIONS)
    try:
        for name in OPERATIONS:
            OPERATIONS[name] = lambda image, value, name=name: (
                found.update([(name, value)]) or image
            )
        for seed in range(draws // 2):
            rand_augment(IMAGE, np.random.default_rng(seed), magnitude=magnitude)
    finally:
        OPERATIONS.update(kept)
    return found


def test_operations_and_signs_are_drawn_evenly():
    found = counted(9)
    assert found.total() == 2000
    by_name = collections.Counter()
    for (name, _), times in found.items():
        by_name[name] += times
    assert len(by_name) == 14 and 95 < min(by_name.values()) and max(by_name.values()) < 191
    rotations = {value: times for (name, value), times in found.items() if name == "Rotate"}
    assert set(rotations) == {9.0, -9.0} and min(rotations.values()) > 40


def test_a_range_draws_its_own_magnitude_for_each_operation():
    thresholds = {value for (name, value) in counted((1, 30)) if name == "Solarize"}
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
