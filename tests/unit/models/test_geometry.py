"""Class means and metric of the OOD filter against their definitions, with and without a shot."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from models.ood.geometry import NAME_SHARE, PRIOR_VARIANCE, SHRINKAGE, NameProcess, ShrunkMetric

CLOSE = {"rtol": 1e-9, "atol": 1e-9}  # float64, inverses of well-conditioned small matrices


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

    def posterior(kept):
        at = names + np.flatnonzero(kept)
        return covariance[:names, at] @ np.linalg.solve(covariance[np.ix_(at, at)], shots[kept])

    process = NameProcess(text, other, shots, labels)
    everything = posterior(np.ones(len(labels), bool))
    np.testing.assert_allclose(process.means, everything[:4], **CLOSE)
    np.testing.assert_allclose(process.other_means, everything[4:], **CLOSE)
    for k in range(4):
        np.testing.assert_allclose(process.predicted[k], posterior(labels != k)[k], **CLOSE)
    left_out = process.left_out_means(labels)
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
    found, paired = metric.left_out(rows)(means), metric.left_out(rows)(shots, paired=True)
    for i, label in enumerate(labels):
        others = (labels == label) & (np.arange(6) != i)
        kept = np.arange(6) != i
        own = residual.copy()
        own[others] = shots[others] - (shots[others].mean(axis=0) if others.any() else 0)
        without = shrunk(own[kept].T @ own[kept])
        np.testing.assert_allclose(found[i], [ratio(rows[i], m, without) for m in means], **CLOSE)
        np.testing.assert_allclose(paired[i], ratio(rows[i], shots[i], without), **CLOSE)
