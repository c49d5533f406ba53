"""Convolutions in oneDNN's own formats, against Jittor's: values, gradients, bits, whole networks.

bf16 keeps 8 bits: two rounded factors put a product off by 2.4e-3 of its size (2^-9 sqrt(4/3)),
and a sum of independent products by the same share of its norm; 3.5e-3 leaves room for chance.
fp32 differs by the order of sums and by Winograd's transforms: 1e-6 of the norm, 5e-6 allowed.
bf16 is emulated where AVX-512 lacks it, with the same results; older processors have none.
"""

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from kernels import cpu_operator
from kernels.convolution import conv2d, use_fast_convolutions
from tests.helpers.machine import computes_bf16

pytestmark = pytest.mark.skipif(
    not cpu_operator.has_onednn() or jt.flags.use_cuda, reason="needs the oneDNN wheels and no CUDA"
)
OFF = {"bf16": 3.5e-3, "fp32": 5e-6}
SHAPES = {  # batch, channels, height, width, filters, kernel, stride, padding, groups, dilation
    "winograd": (8, 64, 16, 16, 64, 3, 1, 1, 1, 1),
    "winograd, odd sides": (9, 80, 19, 23, 96, 3, 1, 1, 1, 1),
    "winograd, no padding": (8, 64, 18, 18, 64, 3, 1, 0, 1, 1),
    "stride 2, odd channels": (3, 5, 13, 11, 7, 3, 2, 1, 1, 1),
    "7x7 stem": (2, 3, 31, 33, 64, 7, 2, 3, 1, 1),
    "1x1, one image": (1, 48, 9, 9, 17, 1, 1, 0, 1, 1),
    "1x1, stride 2": (2, 48, 9, 9, 16, 1, 2, 0, 1, 1),
    "patches": (2, 3, 32, 32, 24, 16, 16, 0, 1, 1),
    "grouped": (4, 32, 15, 15, 64, 3, 1, 1, 4, 1),
    "depthwise, stride 2": (4, 32, 15, 15, 32, 5, 2, 2, 32, 1),
    "dilated": (2, 16, 15, 15, 16, 3, 1, 2, 1, 2),
}


def run(function, shape, **precision):
    """Returns result and gradients of x, weight and bias on seeded random data, as NumPy arrays."""
    batch, channels, height, width, filters, kernel, stride, padding, groups, dilation = shape
    random = np.random.default_rng(0)

    def draw(*axes):
        return jt.array(random.standard_normal(axes).astype(np.float32))

    inputs = [
        draw(batch, channels, height, width),
        draw(filters, channels // groups, kernel, kernel),
        draw(filters),
    ]
    y = function(
        *inputs, stride=stride, padding=padding, groups=groups, dilation=dilation, **precision
    )
    gradients = jt.grad((y * draw(*y.shape)).sum(), inputs)
    return [y.numpy(), *(gradient.numpy() for gradient in gradients)]


def off(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("precision", OFF)
@pytest.mark.parametrize("name", SHAPES)
def test_results_and_gradients_are_jittors_and_repeat(name, precision):
    if precision == "bf16" and not computes_bf16():
        pytest.skip("oneDNN has no bf16 on this processor")
    expected = run(nn.conv2d, SHAPES[name])
    actual = run(conv2d, SHAPES[name], precision=precision)
    for part, ours, jittors in zip(("y", "dx", "dw", "db"), actual, expected, strict=True):
        assert ours.shape == jittors.shape, part
        assert off(ours, jittors) < OFF[precision], part
    if precision == "bf16" and "depthwise" not in name:
        assert off(actual[0], expected[0]) > 1e-3, "this was not computed in bf16"
    for ours, again in zip(actual, run(conv2d, SHAPES[name], precision=precision), strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("precision", OFF)
def test_a_row_does_not_depend_on_the_others(precision):
    if precision == "bf16" and not computes_bf16():
        pytest.skip("oneDNN has no bf16 on this processor")
    random = np.random.default_rng(1)
    images = random.standard_normal((8, 64, 16, 16)).astype(np.float32)
    weight = jt.array(random.standard_normal((64, 64, 3, 3)).astype(np.float32))
    alone = conv2d(jt.array(images), weight, padding=1, precision=precision).numpy()
    images[1:] = random.standard_normal(images[1:].shape)
    among = conv2d(jt.array(images), weight, padding=1, precision=precision).numpy()
    np.testing.assert_array_equal(alone[0], among[0])
    moved = conv2d(jt.array(images[::-1].copy()), weight, padding=1, precision=precision).numpy()
    np.testing.assert_array_equal(moved[::-1], among)


def test_other_values_under_the_same_shape_are_computed_anew():
    """Earlier calls of another shape, which share work space and plans, must not matter."""
    random = np.random.default_rng(2)
    for _ in range(3):
        x, w = (random.standard_normal(s).astype(np.float32) for s in ((3, 5, 9, 9), (7, 5, 3, 3)))
        actual = conv2d(jt.array(x), jt.array(w), padding=1, precision="fp32").numpy()
        assert off(actual, nn.conv2d(jt.array(x), jt.array(w), padding=1).numpy()) < OFF["fp32"]
        run(conv2d, SHAPES["winograd"], precision="fp32")


class Small(nn.Module):
    def __init__(self):
        self.first = nn.Conv(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm(16)
        self.rest = nn.Sequential(nn.Conv(16, 16, 3, 2, 1, groups=16, bias=False), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def execute(self, x):
        return self.head(self.rest(self.norm(self.first(x))).mean(dims=(2, 3)))


def three_steps(module):
    """Returns the losses of three SGD steps on seeded data."""
    random = np.random.default_rng(3)
    x = jt.array(random.standard_normal((8, 3, 12, 12)).astype(np.float32))
    labels = jt.array(random.integers(0, 4, 8).astype(np.int32))
    optimizer = jt.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    losses = []
    for _ in range(3):
        loss = nn.cross_entropy_loss(module(x), labels)
        optimizer.step(loss)
        losses.append(loss.item())
    return losses


def test_a_module_keeps_its_names_and_trains_alike():
    plain, fast = Small(), Small()
    names = list(plain.state_dict())
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        ours.assign(theirs.numpy())
    assert use_fast_convolutions(fast, "fp32") == 2 and use_fast_convolutions(fast, "fp32") == 2
    assert list(fast.state_dict()) == names and isinstance(fast.first, nn.Conv)
    losses = three_steps(plain)
    # after three steps: differences of 1e-7 per layer, which a learning rate of 0.1 enlarges
    np.testing.assert_allclose(three_steps(fast), losses, rtol=1e-4)
    assert losses[2] < losses[0]


@pytest.mark.parametrize(("expected", "runs"), [("x", 3), ("w", 3), ("xw", 4)])
def test_gradients_that_nobody_asks_for_are_not_computed(expected, runs):
    inputs = {"x": jt.randn(2, 4, 8, 8), "w": jt.randn(4, 4, 3, 3)}
    jt.sync_all(True)  # no result of another test may still be pending
    with jt.profile_scope() as report:
        y = conv2d(*inputs.values(), precision="fp32")
        for gradient in jt.grad(y.sum(), [inputs[name] for name in expected]):
            gradient.sync()
        jt.sync_all(True)
    counts = [int(row[2]) for row in report[1:] if row[0].startswith("code")]
    assert sum(counts) == runs  # the result, PACK, and one for each gradient


def test_without_gradients_the_result_is_the_same():
    x, w = jt.randn(2, 4, 8, 8), jt.randn(4, 4, 3, 3)
    taped = conv2d(x, w, precision="fp32").numpy()
    with jt.no_grad():
        np.testing.assert_array_equal(conv2d(x, w, precision="fp32").numpy(), taped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 2}, "groups"),
        ({"precision": "fp16"}, "fp16"),
        ({"weight": jt.ones((4, 6, 9, 9))}, "nothing is left"),
        ({"weight": jt.ones((4, 6, 3, 3)).float64()}, "float32"),
        ({"weight": jt.ones((4, 6))}, "four axes"),
    ],
)
def test_bad_arguments_are_named(change, message):
    inputs = {"x": jt.ones((2, 6, 8, 8)), "weight": jt.ones((4, 6, 3, 3))}
    with pytest.raises(ValueError, match=message):
        conv2d(**(inputs | change))
