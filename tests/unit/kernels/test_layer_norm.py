"""Layer norm as one operator, against NumPy in float64."""

import jittor as jt
import numpy as np
import pytest

from kernels.layer_norm import fits, layer_norm

pytestmark = pytest.mark.skipif(bool(jt.flags.use_cuda), reason="for the CPU")


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("shape", "level"), [((7, 5, 48), 0), ((1, 16), 3), ((300, 768), -50)])
def test_values_and_gradient(shape, level):
    """A mean far from 0 would break a variance that is computed from squares."""
    x, dy, weight, bias = (
        draw(*shape) + level,
        draw(*shape[::-1]).T,
        draw(shape[-1]),
        draw(shape[-1]),
    )
    var = jt.array(x.astype(np.float32))
    y = layer_norm(var, jt.array(weight), jt.array(bias), 1e-5)
    slopes = jt.grad((y * jt.array(np.ascontiguousarray(dy))).sum(), var).numpy()
    wide = x.astype(np.float32).astype(float)
    centred = wide - wide.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    unit, g = centred * scale, dy * weight
    expected = (g - g.mean(-1, keepdims=True) - unit * (g * unit).mean(-1, keepdims=True)) * scale
    off = 2e-5 + 2e-6 * abs(level)  # fp32: the mean, and so x - mean, is off by 1e-7 of the level
    np.testing.assert_allclose(y.numpy(), unit * weight + bias, rtol=0, atol=off)
    np.testing.assert_allclose(slopes, expected, rtol=0, atol=2 * off)


def test_what_it_takes():
    frozen = [jt.ones(32).stop_grad(), jt.zeros(32).stop_grad()]
    assert fits(jt.zeros((2, 32)), *frozen)
    assert not fits(jt.zeros((2, 32)).float64(), *frozen)
    assert not fits(jt.zeros((2, 40)), jt.ones(40).stop_grad(), jt.zeros(40).stop_grad())
    assert not fits(jt.zeros((2, 32)), jt.ones(32), frozen[1])  # it learns
    with jt.no_grad():
        assert fits(jt.zeros((2, 32)), jt.ones(32), frozen[1])
