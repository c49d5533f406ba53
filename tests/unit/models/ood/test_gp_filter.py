"""The Gaussian-process filter: its formula, what it must not see, few shots, and its parts."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.ood.gp_filter import (
    IMAGE_SHARE,
    NAME_SHARE,
    NEGATIVE_SHARE,
    PRIOR_VARIANCE,
    SHRINKAGE,
    GPFilter,
    NameProcess,
    ShrunkMetric,
    calibrate,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-9}  # float64, inverses of well-conditioned small matrices
ROUNDED = {"rtol": 1e-6, "atol": 1e-5}  # scores are rounded to float32


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def task(seed=0, base=6, new=6, shots=4, views=2, width=24, images=40):
    """Classes whose images lie near their names, but for a gap between text and image, a linear
    map that all classes share, and something of each class's own.

    Returns features[N,P,E], labels, base_text, new_text, test rows, is_base.
    """
    rng = np.random.default_rng(seed)
    names = rng.standard_normal((base + new, width))
    shared = np.eye(width) + 0.2 * rng.standard_normal((width, width))
    gaps = 2 * rng.standard_normal((2, width))
    centres = names @ shared + 0.5 * rng.standard_normal(names.shape) + gaps[0]

    def rows(labels, copies):
        image = centres[labels] + 1.2 * rng.standard_normal((len(labels), width))
        return unit(image[:, None] + 0.4 * rng.standard_normal((len(labels), copies, width)))

    labels = np.arange(base).repeat(shots)
    test_labels = np.arange(base + new).repeat(images)
    text = unit(names + gaps[1])
    test = rows(test_labels, 1)[:, 0]
    return rows(labels, views), labels, text[:base], text[base:], test, test_labels < base


def fit_filter(kind="new", seed=0, target_tpr=0.95, scale=20.0, **sizes):
    features, labels, base, new, test, is_base = task(seed, **sizes)
    gp_filter = GPFilter(kind).fit(
        features, labels, base, new, logit_scale=scale, target_tpr=target_tpr
    )
    return gp_filter, test, is_base


@pytest.mark.parametrize("kind", ["new", "negatives"])
def test_score_is_the_formula(kind):
    features, labels, base, new, test, _ = task()
    gp_filter = GPFilter(kind).fit(features, labels, base, new, logit_scale=20.0)
    shots = unit(features.mean(axis=1))
    mean = shots.mean(axis=0)
    process = NameProcess(base, new, shots - mean, labels)
    weigh = ShrunkMetric(shots - mean, labels).linear

    def ratio(means):
        weights, offsets = weigh(means)
        return IMAGE_SHARE * ((test - mean) @ weights.T + offsets)

    score = logsumexp(20 * test @ base.T + ratio(process.means), axis=1)
    if kind == "new":
        score -= logsumexp(20 * test @ new.T + ratio(process.other_means), axis=1)
    else:
        score -= NEGATIVE_SHARE * logsumexp(20 * test @ new.T, axis=1)
        score -= logsumexp(ratio(process.predicted), axis=1)
        slope, offset = gp_filter.state()["scale"]
        assert 0.01 <= slope <= 1
        score = slope * score + offset
    np.testing.assert_allclose(gp_filter.score(test), score, **ROUNDED)


def test_calibration_is_against_the_same_views_without_their_class():
    features, labels, base, other, _, _ = task(views=1)
    gp_filter = GPFilter("negatives").fit(features, labels, base, other, logit_scale=20.0)
    shots = unit(features[:, 0])
    mean = shots.mean(axis=0)
    process = NameProcess(base, other, shots - mean, labels)
    ratio = ShrunkMetric(shots - mean, labels).leave_out(shots - mean)
    predicted = IMAGE_SHARE * ratio(process.predicted)
    logits = 20 * shots @ base.T + IMAGE_SHARE * ratio(process.means)
    own = process.leave_one_out_means(labels)
    scores, without = np.empty((2, len(labels)))
    for i, k in enumerate(labels):
        rest = np.arange(len(base)) != k
        own_logit = 20 * shots[i] @ base[k] + IMAGE_SHARE * ratio(own, paired=True)[i]
        against = NEGATIVE_SHARE * logsumexp(20 * other @ shots[i])
        scores[i] = np.logaddexp(logsumexp(logits[i, rest]), own_logit) - logsumexp(predicted[i])
        without[i] = logsumexp(logits[i, rest]) - logsumexp(predicted[i, rest])
        scores[i], without[i] = scores[i] - against, without[i] - against
    slope, offset = calibrate(scores[:, None], without[:, None], 0.95)
    # the fit stops at a gradient of 1e-4
    np.testing.assert_allclose(gp_filter.state()["scale"], [slope, offset], rtol=1e-4)
    np.testing.assert_allclose(
        gp_filter.held_out_[:, 0], slope * scores + offset, rtol=1e-3, atol=1e-3
    )


def test_shots_help():
    gains = []
    for seed in range(6):
        features, labels, base, new, test, is_base = task(seed)
        plain = logsumexp(20 * test @ base.T, axis=1) - logsumexp(20 * test @ new.T, axis=1)
        gp_filter = GPFilter("new").fit(features, labels, base, new, logit_scale=20.0)
        gains.append(roc_auc_score(is_base, gp_filter.score(test)) - roc_auc_score(is_base, plain))
    assert np.mean(gains) > 0.02, gains


@pytest.mark.parametrize("kind", ["new", "negatives"])
@pytest.mark.parametrize("target_tpr", [0.8, 0.95])
def test_threshold_keeps_the_share_of_held_out_views(kind, target_tpr):
    shares = []
    for seed in range(4):
        gp_filter, test, is_base = fit_filter(
            kind, seed, target_tpr=target_tpr, base=20, shots=6, views=3
        )
        assert gp_filter.held_out_.shape == (120, 3)
        assert (
            target_tpr <= (gp_filter.held_out_ >= gp_filter.threshold_).mean() < target_tpr + 0.01
        )
        shares.append((gp_filter.score(test)[is_base] >= gp_filter.threshold_).mean())
    # a quantile of 120 images is good to sqrt(.8 * .2 / 120) = .037 at the worse share; four draws
    assert np.mean(shares) == pytest.approx(target_tpr, abs=0.05)


@pytest.mark.parametrize("kind", ["new", "negatives"])
def test_a_held_out_score_does_not_know_its_image(kind):
    features, labels, base, new, _, _ = task(shots=3, views=1)
    gp_filter = GPFilter(kind).fit(features, labels, base, new, logit_scale=20.0)
    in_sample = gp_filter.score(features[:, 0])
    # the mean of all shots and the ridge still know it; the class and the metric do not
    assert (gp_filter.held_out_[:, 0] < in_sample).mean() > 0.95


def test_order_of_shots_and_names_and_lengths():
    features, labels, base, new, test, _ = task()
    rng = np.random.default_rng(5)
    for kind in ("new", "negatives"):
        first = GPFilter(kind).fit(features, labels, base, new, logit_scale=20.0)
        order = rng.permutation(len(labels))
        again = GPFilter(kind).fit(
            4 * features[order], labels[order], 2 * base, 0.5 * new, logit_scale=20.0
        )
        for name, values in first.state().items():
            assert values.tobytes() == again.state()[name].tobytes(), name
        np.testing.assert_array_equal(first.held_out_[order], again.held_out_)
        names, others = rng.permutation(len(base)), rng.permutation(len(new))
        renamed = GPFilter(kind).fit(
            features, np.argsort(names)[labels], base[names], new[others], logit_scale=20.0
        )
        np.testing.assert_allclose(renamed.score(test), first.score(test), **ROUNDED)


def test_a_row_scores_the_same_whatever_is_beside_it():
    gp_filter, test, _ = fit_filter("negatives")
    together = gp_filter.score(test)
    for size in (1, 7, 64):
        pieces = [gp_filter.score(test[i : i + size]) for i in range(0, len(test), size)]
        np.testing.assert_array_equal(np.concatenate(pieces), together)
    np.testing.assert_array_equal(gp_filter.score(3 * test.astype(np.float64)), together)


def test_unreadable_images_are_even():
    gp_filter, test, _ = fit_filter()
    test[2] = 0
    score = gp_filter.score(test)
    assert score[2] == 0 and np.isfinite(score).all() and (score != 0).sum() == len(score) - 1


def test_state_round_trip(tmp_path):
    for kind in ("new", "negatives"):
        gp_filter, test, _ = fit_filter(kind)
        np.savez(tmp_path / "state.npz", **gp_filter.state())
        with np.load(tmp_path / "state.npz") as file:
            again = GPFilter.from_state(dict(file))
        np.testing.assert_array_equal(again.score(test), gp_filter.score(test))
        assert again.threshold_ == gp_filter.threshold_ and again.others == gp_filter.others
    state = gp_filter.state()
    for wrong in (
        {name: values for name, values in state.items() if name != "scale"},
        state | {"predicted_weights": state["predicted_weights"][:-1]},
        state | {"other_offsets": state["other_offsets"][:-1]},
    ):
        with pytest.raises(ValueError, match="not the state"):
            GPFilter.from_state(wrong)


@pytest.mark.parametrize("kind", ["new", "negatives"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"shots": 1},
        {"shots": 1, "views": 1},
        {"base": 1},
        {"base": 1, "shots": 1, "views": 1},
        {"base": 2, "new": 1},
        {"new": 0},
        {"base": 1, "new": 0, "shots": 1},
    ],
    ids=str,
)
def test_little_to_go_by(kind, sizes):
    gp_filter, test, is_base = fit_filter(kind, **sizes)
    score = gp_filter.score(test)
    assert np.isfinite(score).all() and np.isfinite(gp_filter.threshold_)
    assert np.isfinite(gp_filter.held_out_).all()
    if is_base.all() or sizes.get("base") == 1:
        return
    assert roc_auc_score(is_base, score) > 0.6


def test_equal_shots_and_classes_without_a_shot():
    features, labels, base, new, test, is_base = task()
    for kind in ("new", "negatives"):
        same = GPFilter(kind).fit(0 * features + features[:1], labels, base, new)
        assert np.isfinite(same.score(test)).all()
        seen = labels != 2
        gp_filter = GPFilter(kind).fit(features[seen], labels[seen], base, new, logit_scale=20.0)
        assert roc_auc_score(is_base, gp_filter.score(test)) > 0.6


def test_unknown_new_classes_without_any_negative_equal_either_kind():
    features, labels, base, new, test, _ = task()
    scores = [
        GPFilter(kind).fit(features, labels, base, new[:0], logit_scale=20.0).score(test)
        for kind in ("new", "negatives")
    ]
    np.testing.assert_array_equal(*scores)


def test_calibration_is_logistic_regression_within_bounds():
    rng = np.random.default_rng(6)
    scores, without = rng.normal(8, 3, (300, 2)), rng.normal(3, 3, (300, 2))
    slope, offset = calibrate(scores, without, 0.95)
    values, is_base = np.r_[scores.ravel(), without.ravel()], np.arange(1200) < 600
    peer = LogisticRegression(C=1e6).fit(values[:, None], is_base)
    # ours has a prior of one unit on the standardised slope, weak beside 1,200 rows
    assert (slope, offset) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), rel=0.02)
    far = calibrate(scores + 1000, without, 0.95)
    assert 0 < far[0] <= 1 and (far[0] * scores + far[0] * 1000 + far[1] > 0).all()
    worthless = calibrate(without, scores, 0.95)
    assert worthless[0] == 0.01
    nothing = calibrate(scores, without * np.nan, 0.95)
    assert nothing[0] == 1 and ((scores + nothing[1]) >= 0).mean() == pytest.approx(0.95, abs=0.01)


def test_errors():
    features, labels, base, new, test, _ = task()
    with pytest.raises(ValueError, match="one of new, negatives"):
        GPFilter("other")
    for wrong, words in (
        ((features[:, 0], labels, base, new), r"\[N,P,E\]"),
        ((features, labels[:-1], base, new), r"\[N,P,E\]"),
        ((features, labels + 1, base, new), "outside 0..5"),
        ((features, labels.astype(float), base, new), "whole number"),
        ((features, labels, base[:, :-1], new), "base_text"),
        ((features, labels, base, new[:, :-1]), "other_text"),
        ((features * np.nan, labels, base, new), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            GPFilter().fit(*wrong)
    with pytest.raises(ValueError, match="target_tpr"):
        GPFilter().fit(features, labels, base, new, target_tpr=1.0)
    with pytest.raises(ValueError, match="not fitted"):
        GPFilter().score(test)
    with pytest.raises(ValueError, match="24 wide"):
        fit_filter()[0].score(test[:, :-1])


def joint(text, other, labels):
    """Prior covariance of [means of all names, the shots]: the definition, shot by shot."""
    centre = text.mean(axis=0)
    names = np.concatenate([text, other]) - centre
    along = names @ names.T / ((text - centre) ** 2).sum(axis=1).mean()
    means = PRIOR_VARIANCE * (NAME_SHARE * along + (1 - NAME_SHARE) * np.eye(len(names)))
    pick = np.concatenate([np.eye(len(names)), np.eye(len(names))[labels]])
    covariance = pick @ means @ pick.T
    shots = np.arange(len(names), len(pick))
    covariance[shots, shots] += 1
    return covariance


@pytest.mark.parametrize("counts", [[3, 2, 4, 3], [1, 1, 1, 1], [2, 0, 1, 3]])
def test_name_process_is_the_posterior_of_its_joint_distribution(counts):
    rng = np.random.default_rng(3)
    text, other = rng.standard_normal((4, 6)), rng.standard_normal((2, 6))
    labels = np.repeat(np.arange(4), counts)
    shots = rng.standard_normal((len(labels), 6))
    covariance, names = joint(text, other, labels), 6

    def posterior(is_kept):
        at = names + np.flatnonzero(is_kept)
        return covariance[:names, at] @ np.linalg.solve(covariance[np.ix_(at, at)], shots[is_kept])

    process = NameProcess(text, other, shots, labels)
    everything = posterior(np.ones(len(labels), bool))
    np.testing.assert_allclose(process.means, everything[:4], **CLOSE)
    np.testing.assert_allclose(process.other_means, everything[4:], **CLOSE)
    for k in range(4):
        np.testing.assert_allclose(process.predicted[k], posterior(labels != k)[k], **CLOSE)
    left_out = process.leave_one_out_means(labels)
    for i, label in enumerate(labels):
        np.testing.assert_allclose(
            left_out[i], posterior(np.arange(len(labels)) != i)[label], **CLOSE
        )


def test_metric_and_ratio_are_those_of_gaussians():
    rng = np.random.default_rng(4)
    labels = np.array([0, 0, 0, 1, 1, 2])
    shots, means, rows = (rng.standard_normal((n, 5)) for n in (6, 4, 6))
    residual = shots - np.array([shots[labels == k].mean(axis=0) for k in labels])

    def shrunk(scatter):
        ridge = np.trace(residual.T @ residual) / 3 / 5  # left as it is without a shot
        return (1 - SHRINKAGE) * scatter / 3 + SHRINKAGE * ridge * np.eye(5)

    def ratio(row, mean, covariance):
        at, zero = (multivariate_normal(m, covariance).logpdf(row) for m in (mean, 0 * mean))
        return at - zero

    metric = ShrunkMetric(shots, labels)
    covariance = shrunk(residual.T @ residual)
    weights, offsets = metric.linear(means)
    expected = [[ratio(row, mean, covariance) for mean in means] for row in rows]
    np.testing.assert_allclose(rows @ weights.T + offsets, expected, **CLOSE)
    ratios, paired = metric.leave_out(rows)(means), metric.leave_out(rows)(shots, paired=True)
    for i, label in enumerate(labels):
        others = (labels == label) & (np.arange(6) != i)
        is_kept = np.arange(6) != i
        own = residual.copy()
        own[others] = shots[others] - (shots[others].mean(axis=0) if others.any() else 0)
        without = shrunk(own[is_kept].T @ own[is_kept])
        np.testing.assert_allclose(ratios[i], [ratio(rows[i], m, without) for m in means], **CLOSE)
        np.testing.assert_allclose(paired[i], ratio(rows[i], shots[i], without), **CLOSE)
