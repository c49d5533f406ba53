"""The attention operator of the CPU, against products and softmax in NumPy, in float64."""

import jittor as jt
import numpy as np
import pytest

from kernels import cpu_operator
from kernels.attention import fits, fused_attention
from scripts.check_device import attention_in_float64

pytestmark = pytest.mark.skipif(bool(jt.flags.use_cuda), reason="for the CPU")

SHAPES = [  # sequences, tokens, width, heads, causal
    (3, 50, 128, 2, False),
    (4, 16, 128, 2, True),
    (2, 77, 64, 1, True),
    (2, 7, 96, 2, True),
    (1, 1, 32, 2, False),
    (2, 131, 48, 3, False),
]


@pytest.mark.parametrize(("n", "length", "width", "heads", "causal"), SHAPES)
def test_values_and_gradients(n, length, width, heads, causal):
    random = np.random.default_rng(length)
    qkv = random.normal(0, 2, (n, length, 3 * width)).astype(np.float32)
    dy = random.normal(0, 1, (n, length, width)).astype(np.float32)
    x = jt.array(qkv)
    y = fused_attention(x, heads, causal)
    actual = y.numpy(), jt.grad((y * jt.array(dy)).sum(), x).numpy()
    for ours, theirs in zip(actual, attention_in_float64(qkv, dy, heads, causal), strict=True):
        # fp32: sums of at most 131 terms of size 5, each rounded to 6e-8 of itself
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5)


def test_scores_far_apart_stay_finite():
    x = np.zeros((1, 20, 3 * 16), np.float32)
    x[0, :, :32] = np.linspace(-100, 100, 20)[:, None]  # scores to 40,000
    x[0, :, 32:] = np.arange(20)[:, None]
    y = fused_attention(jt.array(x), 1).numpy()
    np.testing.assert_allclose(y[0, 0], 0, atol=1e-6)  # the lowest query attends to the lowest key
    np.testing.assert_allclose(y[0, -1], 19, atol=1e-5)


def test_a_sequence_is_by_itself():
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (5, 33, 3 * 64)).astype(np.float32)
    together = fused_attention(jt.array(x), 2).numpy()
    for row in range(5):
        alone = fused_attention(jt.array(x[row : row + 1]), 2).numpy()
        np.testing.assert_array_equal(together[row : row + 1], alone)


def test_threads_change_no_bit():
    random = np.random.default_rng(0)
    x, dy = random.normal(0, 1, (3, 40, 96)), random.normal(0, 1, (3, 40, 32))
    actual = []
    for threads in (1, 2, 3):
        set_threads(threads)
        var = jt.array(x.astype(np.float32))
        y = fused_attention(var, 2, True)
        actual.append(
            (y.numpy(), jt.grad((y * jt.array(dy.astype(np.float32))).sum(), var).numpy())
        )
    set_threads(2)
    for each in actual[1:]:
        np.testing.assert_array_equal(each[0], actual[0][0])
        np.testing.assert_array_equal(each[1], actual[0][1])


def set_threads(count: int) -> None:
    """Sets the number of OpenMP threads for the operators that run from here on."""
    code = 'omp_set_num_threads((int)data["count"]); out0_p[0] = omp_get_max_threads();'
    actual = cpu_operator.run(("onednn",), code, [jt.zeros(1)], (1,), {"count": count})
    assert actual.item() == count


def test_what_does_not_fit_is_refused():
    assert not fits(jt.zeros((1, 4, 3 * 24)), 2)
    with pytest.raises(ValueError, match=r"float32 \(1, 4, 72\) for 2 heads"):
        fused_attention(jt.zeros((1, 4, 72)), 2)
    with pytest.raises(ValueError, match="float64"):
        fused_attention(jt.zeros((1, 4, 96), "float64"), 2)
