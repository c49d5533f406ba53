"""MTA and ZERO find what their authors' code finds; every method keeps its promises."""

import numpy as np
import pytest

from fewshot.inference.mta import METHODS, solve, zero
from runtime.paths import ROOT
from tests.golden.mta.make import COUNTS, inputs, unit

GOLDEN = ROOT / "tests/golden/mta"


def photos(images=5, count=8, seed=0):
    """views[B,P,E], text[C,E] of the golden inputs' kind."""
    views, text = inputs(count)
    return views[seed : seed + images], text


@pytest.mark.parametrize("count", COUNTS)
def test_mta_is_its_published_code(count):
    views, text = inputs(count)
    golden = np.load(GOLDEN / "mta.npz")
    modes, inlierness = solve(views, text)
    # the modes are stored in float32, and the public code stops at steps of 1e-6
    np.testing.assert_allclose(modes, golden[f"modes_{count}"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(inlierness, golden[f"inlierness_{count}"], rtol=0, atol=1e-5)
    # the same ranking; views within 1e-12 of each other, the rounding of float64, are tied
    order = golden[f"inlierness_{count}"].argsort(axis=1)
    ranked = np.take_along_axis(inlierness, order, axis=1)
    assert (np.diff(ranked, axis=1) > -1e-12).all()
    centre = (views[:, 0] @ text.T).argmax(1)
    assert count < 8 or ((modes @ text.T).argmax(1) != centre).mean() > 0.1  # it does something


@pytest.mark.parametrize("count", COUNTS)
def test_zero_is_its_published_code(count):
    views, text = inputs(count)
    modes, inlierness = zero(views, text)
    answers = np.load(GOLDEN / "zero.npz")[f"answers_{count}"]
    assert ((modes @ text.T).argmax(1) == answers).all()
    assert (inlierness > 0).sum(1).max() <= max(1, int(0.3 * count))
    kept_votes = (views @ text.T).argmax(2)[inlierness > 0]
    assert (kept_votes == answers.repeat((inlierness > 0).sum(1))).all()


def looks_at(likes, text):
    """Unit views whose cosines with orthonormal text are in proportion to `likes`."""
    return unit(np.array(likes, float)) @ text


def test_zero_rounds_its_share_of_the_views_down():
    sure, less = [9, 1, 0], [1, 6, 0]
    views = looks_at([[3, 3, 3.3]] * 6 + [less, less, sure], np.eye(3))[None]
    modes, inlierness = zero(views, np.eye(3), logit_scale=10)  # int(2.7) of 9 views vote: a tie,
    assert inlierness[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]  # which the second `less` breaks
    assert modes.argmax() == 1


def test_zero_breaks_ties_by_the_surest_of_the_other_views():
    text = np.eye(3)
    sure = [[9, 1, 0], [1, 8.5, 0]]  # 2 of 8 views vote, one for each of two classes
    unsure = [[3, 3, 4.5]] * 5
    for last, winner in (([5, 4, 4], 0), ([4, 5, 4], 1)):
        views = looks_at([*unsure, last, *sure], text)[None]
        modes, inlierness = zero(views, text, logit_scale=10)
        assert modes.argmax() == winner
        assert np.flatnonzero(inlierness[0]).tolist() == [6 + winner]
    # no other view votes for either: what the surest of them likes best, of the two
    for middle, winner in (([3.1, 3, 4.6], 0), ([3, 3.1, 4.6], 1)):
        views = looks_at([*unsure, middle, *sure], text)[None]
        assert zero(views, text, logit_scale=10)[0].argmax() == winner


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_batches_change_no_bit_and_give_unit_modes(method, count):
    views, text = inputs(8)
    views = views[:7, :count]
    modes, inlierness = method(views, text)
    assert modes.shape == (7, 32) and inlierness.shape == (7, count)
    assert modes.dtype == inlierness.dtype == np.float64
    looped = [method(views[i : i + 1], text) for i in range(7)]
    assert modes.tobytes() == np.concatenate([mode for mode, _ in looped]).tobytes()
    assert inlierness.tobytes() == np.concatenate([y for _, y in looped]).tobytes()
    np.testing.assert_allclose(np.linalg.norm(modes, axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(inlierness.sum(1), 1, rtol=0, atol=1e-14)
    assert method(views[:0], text)[0].shape == (0, 32)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_unreadable_image_has_a_zero_mode_and_harms_no_other(method):
    views, text = (array.astype(np.float32) for array in photos())
    whole, _ = method(views, text)
    views[2] = 0
    modes, inlierness = method(views, text)
    assert not modes[2].any() and (np.abs(inlierness[2] - 1 / 8) < 1e-7).all()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(modes[others], whole[others])


@pytest.mark.parametrize("count", [1, 2, 3, 8, 64])
def test_identical_views_are_their_own_mode(count):
    views, text = photos(count=1)
    least = 1e-14  # a few roundings
    for method in METHODS.values():
        modes, _ = method(views.repeat(count, axis=1), text)
        np.testing.assert_allclose(modes, views[:, 0], rtol=0, atol=least)
    _, inlierness = solve(views.repeat(count, axis=1), text)
    np.testing.assert_allclose(inlierness, 1 / count, rtol=0, atol=least)


def test_duplicate_crops_far_apart_give_numbers():
    """Two heaps of equal views: bandwidths are least and most densities underflow."""
    views, text = photos(images=2, count=8)
    for heaps in (views[:, [0, 1]].repeat(32, axis=1), views[:, [0] + [1] * 31 + [2] * 32]):
        modes, inlierness = solve(heaps, text)
        assert np.isfinite(modes).all() and np.isfinite(inlierness).all()
        np.testing.assert_allclose(np.linalg.norm(modes, axis=1), 1, rtol=0, atol=1e-6)


def test_the_order_of_the_crops_permutes_inlierness():
    views, text = photos(count=64)
    order = np.r_[0, 1 + np.random.default_rng(0).permutation(63)]
    for method in METHODS.values():
        modes, inlierness = method(views, text)
        moved, shuffled = method(views[:, order], text)
        # sums run in another order; 50 steps keep that near the rounding of float64
        np.testing.assert_allclose(moved, modes, rtol=0, atol=1e-12)
        np.testing.assert_allclose(shuffled, inlierness[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", [1, 5, 63])
def test_one_far_outlier_is_the_least_inlying(place):
    views, text = photos(count=1)
    views = unit(views + 0.005 * np.random.default_rng(1).standard_normal((5, 64, 32)))
    views[:, place] = -views[:, 0]
    _, inlierness = solve(views, text)
    assert (inlierness.argmin(1) == place).all() and (inlierness[:, place] < 0.2 / 64).all()


def test_lengths_of_views_do_not_matter():
    views, text = photos()
    longer = views * np.random.default_rng(0).uniform(0.1, 50, (5, 8, 1))
    for method in METHODS.values():
        np.testing.assert_allclose(method(longer, text)[0], method(views, text)[0], atol=1e-12)


def test_other_settings_change_the_answer_as_they_should():
    views, text = photos()
    _, plain = solve(views, text)
    _, equal = solve(views, text, lambda_y=1e6)  # entropy alone
    np.testing.assert_allclose(equal, 1 / 8, rtol=0, atol=1e-5)
    _, alone = solve(views, text, lambda_q=0)  # without the votes of like predictions
    _, cold = solve(views, text, lambda_q=4, logit_scale=0)  # all predictions alike
    assert (plain != alone).any()
    np.testing.assert_allclose(alone, cold, rtol=0, atol=1e-12)  # a constant cancels


@pytest.mark.parametrize(
    "shapes", [((5, 32), (3, 32)), ((5, 8, 32), (3, 31)), ((5, 0, 32), (3, 32))]
)
def test_other_shapes_are_refused(shapes):
    views, text = map(np.ones, shapes)
    for method in METHODS.values():
        with pytest.raises(ValueError, match=r"must be \[B,P,E\] and \[C,E\]"):
            method(views, text)
