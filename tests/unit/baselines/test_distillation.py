"""Losses of the baselines against public reference code, values and gradients."""

import jittor as jt
import numpy as np
import pytest

from baselines import distillation as distill
from baselines.nt_xent import nt_xent
from baselines.semi_supervised import fixmatch_loss
from engine.losses import class_cross_entropy
from tests.helpers.golden import load_golden

CASES = ("plain", "pair", "same")  # two rows of the student are equal, all of them are
LOSSES = {
    "nt_xent": (lambda a, b: nt_xent(a, b, 0.5), ("student", "other")),
    # DeiT's public code divides by the 5 classes too
    "soft": (lambda s, t: distill.soft_distillation(s, t, 3.0) / 5, ("logits", "guide")),
    "hard": (distill.hard_distillation, ("logits", "guide")),
    "fixmatch": (lambda s, w: fixmatch_loss(w, s, 0.6, 0.7)[0], ("logits", "guide")),
    "smoothed": (lambda x: class_cross_entropy(x, np.arange(6) % 5, 0.1), ("logits",)),
    "rkd_distance": (distill.rkd_distance, ("student", "teacher")),
    "rkd_angle": (distill.rkd_angle, ("student", "teacher")),
}
# float32 against float64: some dozen roundings of 6e-8 of terms up to about 10, which are the
# logits; gradients are below .2
VALUE, GRADIENT = 3e-6, 5e-7


def run(name, inputs):
    """Value and gradients of all inputs."""
    variables = [jt.array(array) for array in inputs]
    loss = LOSSES[name][0](*variables)
    gradients = jt.grad(loss, variables)
    return loss.item(), [gradient.numpy() for gradient in gradients]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_the_reference_codes(name, case):
    golden, names = load_golden("baselines/losses"), LOSSES[name][1]
    value, gradients = run(name, [golden[f"{case}.{key}"] for key in names])
    assert abs(value - golden[f"{case}.{name}.value"]) < VALUE
    trained = 2 if name == "nt_xent" else 1
    for key, gradient in zip(names[:trained], gradients[:trained], strict=True):
        expected = golden[f"{case}.{name}.{key}"]
        rows = slice(None)
        if name == "rkd_angle":
            # between equal rows the reference divides by 1e-12 and its gradient is of no use
            rows = {"plain": slice(None), "pair": slice(2, None), "same": slice(0)}[case]
        np.testing.assert_allclose(gradient[rows], expected[rows], rtol=0, atol=GRADIENT)
        assert np.abs(gradient).max() < 1
    for gradient in gradients[trained:]:
        assert not gradient.any()  # teachers, and the weak views


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("fill", [0.0, 1e4, 1e-20])
def test_degenerate_rows_leave_no_nan(name, fill):
    keys = LOSSES[name][1]
    inputs = [np.full_like(load_golden("baselines/losses")[f"plain.{key}"], fill) for key in keys]
    inputs[0][2:4] = load_golden("baselines/losses")[f"plain.{keys[0]}"][2:4]
    value, gradients = run(name, inputs)
    assert np.isfinite(value)
    for gradient in gradients:
        assert np.isfinite(gradient).all() and np.abs(gradient).max() < 1e3


def test_distances_keep_their_digits_where_rows_are_near():
    base = np.random.default_rng(0).normal(size=(1, 8))
    rows = (base + 1e-3 * np.random.default_rng(1).normal(size=(5, 8))).astype(np.float32)
    computed = distill.relative_distances(jt.array(rows)).numpy()
    wide = rows.astype(np.float64)
    exact = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    exact /= exact.sum() / 20
    assert np.abs(computed - exact).max() < 1e-6  # the squared form loses 1e-3 here


def test_angles_are_cosines_at_the_first_row():
    rows = np.array([[0, 0], [2, 0], [0, 3]], np.float32)
    computed = distill.angles(jt.array(rows)).numpy()
    assert computed[0, 1, 2] == 0 and computed[0, 1, 1] == pytest.approx(1, abs=1e-6)  # float32
    assert computed[1, 0, 2] == pytest.approx(2 / np.sqrt(13), abs=1e-6)  # float32
    assert computed[0, 0, 1] == 0  # row 0 from itself has no direction


def test_fixmatch_counts_sure_rows_and_divides_by_all():
    weak = jt.array(np.array([[9, 0], [0, 0.1], [0, 9], [0.1, 0]], np.float32))
    strong = jt.zeros((4, 2))
    loss, share = fixmatch_loss(weak, strong, 0.95)
    assert share.item() == 0.5
    assert loss.item() == pytest.approx(np.log(2) / 2, abs=1e-6)  # float32
    none, share = fixmatch_loss(weak * 0, strong, 0.95)
    assert none.item() == 0 and share.item() == 0


def test_nt_xent_pairs_rows_of_the_two_views():
    views = jt.array(np.eye(4, dtype=np.float32) * 7)  # its length does not count
    paired, crossed = nt_xent(views, views, 0.1).item(), nt_xent(views, views[::-1], 0.1).item()
    assert paired == pytest.approx(np.log(1 + 6 * np.exp(-10)), abs=1e-5)  # float32, near 3e-4
    assert crossed > 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: nt_xent(a, a[:2], 0.5), "views have"),
        (lambda a: nt_xent(a[:1], a[:1], 0.5), "B of 2 or more"),
        (lambda a: nt_xent(a, a, 0.0), "temperature is 0"),
        (lambda a: distill.soft_distillation(a, a, -1), "temperature is -1"),
        (lambda a: distill.rkd_distance(a, a[:2]), "student has 3 rows, teacher 2"),
        (lambda a: distill.rkd_angle(a[:2], a[:2]), "the same 3 rows"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jt.ones((3, 2)))
