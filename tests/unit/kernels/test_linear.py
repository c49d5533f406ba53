"""Frozen linear layers by oneDNN, against NumPy in float64: values, gradients, bits.

fp32 sums of some hundred terms are off by about 1e-6 of the result's size. bf16 keeps 8 bits: two
rounded factors put a product off by 2.4e-3 of its size, and a sum by the same share of its norm;
bf16 is emulated on AVX-512 without it; oneDNN has none on older processors.
"""

import math

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from kernels import cpu_operator
from kernels.linear import (
    PackedWeights,
    fits_cpu,
    fits_gpu,
    linear_on_cpu,
    linear_on_gpu,
    mlp_on_cpu,
)
from tests.helpers.machine import computes_bf16

pytestmark = pytest.mark.skipif(
    not cpu_operator.has_onednn() or bool(jt.flags.use_cuda),
    reason="needs the oneDNN wheels and no CUDA",
)
OFF = {False: 2e-6, True: 4e-3}  # of the norm
SLOPES = {  # the activations and their derivatives
    "quick_gelu": (
        lambda x: x / (1 + np.exp(-1.702 * x)),
        lambda x: (1 + np.exp(-1.702 * x) * (1 + 1.702 * x)) / (1 + np.exp(-1.702 * x)) ** 2,
    ),
    "gelu": (
        lambda x: x * normal(x),
        lambda x: normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
}


def normal(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(x)


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def half(request, monkeypatch) -> bool:
    if request.param and not computes_bf16():
        pytest.skip("oneDNN has no bf16 on this processor")
    monkeypatch.setattr(cpu_operator, "precision", "bf16" if request.param else "fp32")
    return request.param


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(0, 1, shape).astype(np.float32)


def frozen(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    layer.weight.update(jt.array(draw(outputs, inputs) / np.float32(inputs**0.5)))
    return layer.eval()


def close(actual: np.ndarray, expected: np.ndarray, half: bool, more: float = 1) -> None:
    assert np.linalg.norm(actual - expected) < more * OFF[half] * np.linalg.norm(expected)


@pytest.mark.parametrize("rows", [1, 37, 300])  # 300 take two rounds of 256
def test_linear(rows, half):
    layer, packed = frozen(96, 160), PackedWeights()
    x, residual, dy = draw(rows, 96), draw(rows, 160), draw(rows, 1, 160)[:, 0]
    weight, bias = layer.weight.numpy().astype(float), layer.bias.numpy()
    inputs = [jt.array(x), jt.array(residual)]
    for use_bias in (None, layer.bias):
        for sums in (inputs, inputs[:1]):
            y = linear_on_cpu(packed, sums[0], layer.weight, use_bias, *sums[1:])
            expected = x @ weight.T + (bias if use_bias is not None else 0)
            close(y.numpy(), expected + (residual if len(sums) > 1 else 0), half)
            slopes = jt.grad((y * jt.array(dy)).sum(), sums)
            close(slopes[0].numpy(), dy @ weight, half)
            if len(sums) > 1:
                np.testing.assert_array_equal(slopes[1].numpy(), dy)


@pytest.mark.parametrize("kind", SLOPES)
def test_mlp(kind, half):
    wide, narrow = frozen(64, 256), frozen(256, 64)
    packed = PackedWeights(), PackedWeights()
    x, residual, dy = draw(5, 61, 64), draw(61, 5, 64).reshape(5, 61, 64), draw(5, 61, 64)
    variables = [jt.array(x), jt.array(residual)]
    y = mlp_on_cpu(packed, *variables, wide, narrow, kind)
    w1, w2 = (layer.weight.numpy().astype(float) for layer in (wide, narrow))
    activation, slope = SLOPES[kind]
    u = x @ w1.T + wide.bias.numpy()
    close(y.numpy() - residual, activation(u) @ w2.T + narrow.bias.numpy(), half, more=2)
    actual = [each.numpy() for each in jt.grad((y * jt.array(dy)).sum(), variables)]
    close(actual[0], ((dy @ w2) * slope(u)) @ w1, half, more=2)
    np.testing.assert_array_equal(actual[1], dy)
    with jt.no_grad():  # nothing is stored for the gradient
        np.testing.assert_array_equal(mlp_on_cpu(packed, *variables, wide, narrow, kind), y.numpy())


@pytest.mark.parametrize("kind", SLOPES)
def test_activations_over_their_whole_range(kind):
    """The layers are the identity, so only the activation and its derivative remain."""
    wide, narrow = frozen(16, 16), frozen(16, 16)
    for layer in (wide, narrow):
        layer.weight.update(jt.array(np.eye(16, dtype=np.float32)).stop_grad())
        layer.bias.update(jt.zeros(16).stop_grad())
    x = np.concatenate([np.linspace(-12, 12, 1600 - 48), [-1e4, -90, 0, 1e-30, 90, 1e4] * 8])
    x = x.astype(np.float32).reshape(-1, 16)
    var, packed = jt.array(x), (PackedWeights(), PackedWeights())
    y = mlp_on_cpu(packed, var, jt.zeros_like(var), wide, narrow, kind)
    slopes = jt.grad(y.sum(), var).numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        activation, slope = (each(x.astype(float)) for each in SLOPES[kind])
    slope = np.where(np.isfinite(slope), slope, 0)  # inf / inf far below 0: the true value is 0
    np.testing.assert_allclose(y.numpy(), activation, rtol=1e-6, atol=1e-6)  # fp32
    np.testing.assert_allclose(slopes, slope, rtol=0, atol=2e-6)


def test_a_row_is_by_itself():
    layer, packed, x = frozen(64, 128), PackedWeights(), draw(600, 64)
    whole = linear_on_cpu(packed, jt.array(x), layer.weight, layer.bias).numpy()
    for rows in (1, 2, 31, 255, 256, 257):
        part = linear_on_cpu(packed, jt.array(x[:rows]), layer.weight, layer.bias).numpy()
        np.testing.assert_array_equal(part, whole[:rows])


def test_a_changed_weight_is_laid_out_anew():
    layer, packed, x = frozen(32, 32), PackedWeights(), jt.array(draw(4, 32))
    first = linear_on_cpu(packed, x, layer.weight).numpy()
    for change in (layer.weight.update, layer.weight.assign):
        change(layer.weight * 2)
        layer.eval()
        second = linear_on_cpu(packed, x, layer.weight).numpy()
        np.testing.assert_array_equal(second, 2 * first)
        first = second


def test_what_it_takes():
    x, layer = jt.zeros((2, 32)), frozen(32, 48)
    assert fits_cpu(x, [layer.weight], [layer.bias])
    assert fits_cpu(x, [layer.weight], [None])
    assert not fits_cpu(x.float64(), [layer.weight])
    assert not fits_cpu(x, [frozen(32, 40).weight])
    assert not fits_cpu(x, [layer.weight], [jt.zeros(48)])  # the bias learns
    layer.train()
    assert not fits_cpu(x, [layer.weight])
    with jt.no_grad():
        assert fits_cpu(x, [layer.weight], [layer.bias])


@pytest.mark.parametrize("transposed", [False, True])
def test_the_product_of_a_gpu(transposed):
    """Runs on a CPU, on which Jittor's bf16 product also sums in bf16, with 8 bits."""
    packed, x, dy, weight = PackedWeights(), draw(3, 5, 32), draw(3, 5, 48), draw(48, 32)
    matrix = weight.T if transposed else weight.reshape(48, 2, 16)  # [K, N], or a convolution's
    frozen_weight = jt.array(np.ascontiguousarray(matrix)).stop_grad()
    for factor in (1, 2):  # a changed weight is rounded again
        var = jt.array(x)
        y = linear_on_gpu(packed, var, frozen_weight, transposed)
        slopes = jt.grad((y * jt.array(dy)).sum(), var).numpy()
        assert y.dtype == "float32"
        for actual, exact in ((y.numpy(), x @ weight.T), (slopes, dy @ weight)):
            assert np.abs(actual - factor * exact).max() < 0.1 * np.abs(factor * exact).max()
        frozen_weight = (2 * frozen_weight).stop_grad()


def test_a_gpu_is_needed_for_its_product(monkeypatch):
    monkeypatch.setattr(cpu_operator, "precision", "bf16")
    assert not fits_gpu(jt.zeros((2, 32)), frozen(32, 32).weight)
