"""Where the shots and the names say that classes lie, and how far an image is from there.

For `models/ood/gp_filter.py`. N shots, K base classes, O other names, E embedding. Everything
is about
the mean of all shots, in float64, and knows each shot only as one row.
"""

from collections.abc import Callable

import numpy as np

NAME_SHARE = 0.9  # rho: share of a class mean's variance that goes along with its name
PRIOR_VARIANCE = 2.0  # tau^2: variance of a class mean, in variances of a shot about it
SHRINKAGE = 0.9  # of the covariance within classes towards a multiple of I


class NameProcess:
    """Class means as a Gaussian process over names: like names, like means.

    cov(mu_k, mu_l) = tau^2 [rho t_k . t_l / mean |t|^2 + (1 - rho) (k = l)] per dimension, t about
    the mean of the base names; the mean of n shots adds 1/n. means[K,E] is the posterior of the
    base classes, predicted[K,E] the same without a class's own shots, other_means[O,E] what follows
    for classes known by name.
    """

    def __init__(
        self, text: np.ndarray, other: np.ndarray, shots: np.ndarray, labels: np.ndarray
    ) -> None:
        """text[K,E], other[O,E], shots[N,E] (about their mean), labels[N] in 0..K-1."""
        self.shots, self.counts = shots, np.bincount(labels, minlength=len(text))
        seen = np.flatnonzero(self.counts)
        centre = text.mean(axis=0)
        base, others = text - centre, other - centre
        size = (base**2).sum(axis=1).mean() or 1.0  # one name says nothing of where it lies
        self.sums = np.eye(len(text))[labels].T @ shots
        observed = self.sums[seen] / self.counts[seen, None]
        along = PRIOR_VARIANCE * NAME_SHARE / size * base @ base[seen].T  # [K,seen]
        prior = along.copy()
        prior[seen, np.arange(len(seen))] += PRIOR_VARIANCE * (1 - NAME_SHARE)
        inverse = np.linalg.inv(prior[seen] + np.diag(1 / self.counts[seen]))
        weights = inverse @ observed
        self.means = prior @ weights
        self.other_means = PRIOR_VARIANCE * NAME_SHARE / size * others @ base[seen].T @ weights
        # Without its own shots a class has the prediction y - [C^-1 y] / [C^-1]_kk, with variance
        # 1 / [C^-1]_kk less the noise of its shots.
        self.predicted, self.variances = self.means.copy(), np.ones(len(text))
        self.predicted[seen] = observed - weights / np.diag(inverse)[:, None]
        self.variances[seen] = 1 / np.diag(inverse) - 1 / self.counts[seen]

    def left_out_means(self, labels: np.ndarray) -> np.ndarray:
        """[N,E]: the mean of each shot's class without that shot."""
        precision = 1 / self.variances[labels][:, None]
        others = self.counts[labels][:, None] - 1
        known = precision * self.predicted[labels] + self.sums[labels] - self.shots
        return known / (precision + others)


class ShrunkMetric:
    """inverse[E,E] of S = (1 - s) Sigma + s trace(Sigma)/E I, Sigma the covariance within classes.

    Where no class has two shots (or all of them are equal) Sigma is that of all shots; equal rows
    say nothing, and the inverse is 0.
    """

    def __init__(self, shots: np.ndarray, labels: np.ndarray) -> None:
        """shots[N,E] about their mean, labels[N]."""
        counts = np.bincount(labels)[labels]
        sums = np.zeros((labels.max() + 1, shots.shape[1]))
        np.add.at(sums, labels, shots)
        residual = shots - sums[labels] / counts[:, None]
        free = len(shots) - len(np.unique(labels))
        tiny = 1e-12 * max((shots**2).sum(), 1e-12)
        if (residual**2).sum() <= tiny:
            residual, free, counts = shots, max(len(shots) - 1, 1), np.zeros(len(shots))
        scatter, width = residual.T @ residual, shots.shape[1]
        if np.trace(scatter) <= 1e-12:
            self.inverse, self.removed = np.zeros((width, width)), (residual, np.zeros(len(shots)))
            return
        ridge = SHRINKAGE * np.trace(scatter) / (free * width)
        self.inverse = np.linalg.inv((1 - SHRINKAGE) / free * scatter + ridge * np.eye(width))
        # Without one of n rows its class's scatter is less by n/(n-1) r r^T: one rank of S.
        lost = np.where(counts == 0, 1.0, counts / np.maximum(counts - 1, 1)) * (1 - SHRINKAGE)
        turned = residual @ self.inverse
        lost = lost / free
        gain = lost / (1 - np.minimum(lost * (turned * residual).sum(axis=1), 0.99))
        self.removed = turned, gain  # S^-1 r [N,E] and the factor of S^-1 r r^T S^-1 [N]

    def linear(self, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """weights[K,E], offsets[K] of f -> log N(f; mu_k, S) - log N(f; 0, S), about the mean."""
        weights = means @ self.inverse
        return weights, -0.5 * (weights * means).sum(axis=1)

    def left_out(self, rows: np.ndarray) -> Callable[..., np.ndarray]:
        """For rows[N,E], one of each shot: a function of means[K,E] -> [N,K], the same ratios with
        the metric that had not seen the shot; with `paired`, of means[N,E] -> [N].
        """
        turned, gain = self.removed
        along = (rows * turned).sum(axis=1)

        def ratio(means: np.ndarray, paired: bool = False) -> np.ndarray:
            weights, offsets = self.linear(means)
            if paired:
                met = (turned * means).sum(axis=1)
                return (rows * weights).sum(axis=1) + offsets + gain * met * (along - met / 2)
            met = turned @ means.T
            known = rows @ weights.T + offsets
            return known + gain[:, None] * met * (along[:, None] - met / 2)

        return ratio
