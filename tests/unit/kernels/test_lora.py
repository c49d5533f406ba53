"""The LoRA operator, against the matrix products in NumPy."""

import jittor as jt
import numpy as np
import pytest

from kernels.lora import add_lora, fits

pytestmark = pytest.mark.skipif(bool(jt.flags.use_cuda), reason="for the CPU")
FACTOR = 1.5


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(0, 1, shape).astype(np.float32)


def arrays(slots: tuple[int, ...], rank: int, columns: int) -> list[np.ndarray]:
    """Returns x[300,64], base[300,W], a and b: more rows than a block has."""
    count = len(slots)
    return [draw(300, 64), draw(300, columns), draw(count, rank, 64), draw(count, 48, rank)]


def expected(x, base, a, b, slots) -> np.ndarray:
    y = base.astype(float)
    for i, slot in enumerate(slots):
        y[:, slot * 48 : (slot + 1) * 48] += FACTOR * x.astype(float) @ a[i].T @ b[i].T
    return y


CASES = [((0, 1, 2), 2, 144), ((0, 2), 5, 144), ((1,), 1, 96), ((0,), 16, 48)]


@pytest.mark.parametrize(("slots", "rank", "columns"), CASES)
def test_without_dropout(slots, rank, columns):
    inputs = arrays(slots, rank, columns)
    x, base, a, b = map(jt.array, inputs)
    y = add_lora(base, x, a, b, slots, factor=FACTOR, dropout=0, seeds=[0] * 3).numpy()
    np.testing.assert_allclose(y, expected(*inputs, slots), rtol=0, atol=2e-4)  # fp32, to 200


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("slots", "rank", "columns"), CASES)
def test_gradients_are_the_slopes(slots, rank, columns, dropout):
    """The sum is linear in each argument, so a difference of any size gives its gradient."""
    variables = [jt.array(each) for each in arrays(slots, rank, columns)]
    dy = jt.array(draw(columns, 300).T.copy())

    def result() -> jt.Var:
        settings = {"factor": FACTOR, "dropout": dropout, "seeds": [3, 4, 5]}
        x, base, a, b = variables
        return (add_lora(base, x, a, b, slots, **settings) * dy).sum()

    for variable, slope in zip(variables, jt.grad(result(), variables), strict=True):
        value, way = variable.numpy(), draw(*variable.shape)
        ends = []
        for sign in (0.5, -0.5):
            variable.update(jt.array(value + np.float32(sign) * way))
            ends.append(result().item())
        variable.update(jt.array(value))
        # both sums are fp32, of thousands of terms of which many cancel
        assert ends[0] - ends[1] == pytest.approx((slope.numpy() * way).sum(), abs=0.3, rel=1e-3)


def dropout_mask(seed: int, dropout: float = 0.25) -> np.ndarray:
    """Returns which entries of 2,000 rows of 64 dropout keeps."""
    x, one = jt.ones((2000, 64)), jt.array(np.eye(64, dtype=np.float32)[None])
    settings = {"factor": 1.0, "dropout": dropout, "seeds": [seed]}
    y = add_lora(jt.zeros((2000, 64)), x, one, one, (0,), **settings).numpy()
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - dropout)], rtol=1e-6)  # fp32
    return y > 0


def test_dropout_is_independent_from_row_to_row_column_to_column_and_seed_to_seed():
    mask = dropout_mask(1)
    deviation = (0.25 * 0.75) ** 0.5
    assert mask.mean() == pytest.approx(0.75, abs=4 * deviation / mask.size**0.5)
    for other in (dropout_mask(2), np.roll(mask, 1, axis=0), np.roll(mask, 1, axis=1)):
        agreement = ((mask - 0.75) * (other - 0.75)).mean() / deviation**2
        assert abs(agreement) < 4 / mask.size**0.5
    for axis in (0, 1):  # the kept shares of rows and of columns scatter like random draws
        scatter = mask.mean(axis=axis).std() / (deviation / mask.shape[axis] ** 0.5)
        assert 0.7 < scatter < 1.3  # 64 shares: four standard errors of their deviation
    np.testing.assert_array_equal(dropout_mask(1), mask)


def test_widths():
    assert fits(jt.zeros((2, 64)), 48)
    assert not fits(jt.zeros((2, 60)), 48)
    assert not fits(jt.zeros((2, 64)), 40)
