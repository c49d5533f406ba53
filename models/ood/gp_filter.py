"""The Gaussian-process filter: log-odds that an image shows a base class and not a new one.

    gp_filter = GPFilter(others="new").fit(
        features[N,P,E], labels[N], base_text[K,E], other_text[O,E], target_tpr=0.95
    )
    gp_filter.score(features[N,E])  # float64 [N]; threshold_ lets 95 % of base images through
    GPFilter.from_state(gp_filter.state())  # plain arrays

With others="new", other_text are the names of all new classes. With others="negatives" the new
classes are unknown, other_text are words that name no base class, and O may be 0.

The parts of the score: CLIP's own logits; a covariance shared by the classes as in GDA (Wang et
al., ICLR 2024); class means that follow the class names by a Gaussian process, so that a class
without any shot has a predicted mean. The likelihood ratio against the predicted means replaces the
single wide Gaussian of the relative Mahalanobis distance (Ren et al., 2021). The formulas, their
figures and the choice of the constants are in docs/.

Shapes: N shots, P views of each, K base classes, O other names, E embedding. Host, float64, closed
form.
"""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from scipy.special import logsumexp

from models.normalize import canonical_order, check_labels, unit_rows

IMAGE_SHARE = 0.04  # a: weight of an image's log-likelihood ratio next to CLIP's logits
NEGATIVE_SHARE = 0.8  # b: weight of the negatives' log-mass
NAME_SHARE = 0.9  # rho: share of a class mean's variance that its name explains
PRIOR_VARIANCE = 2.0  # tau^2: variance of a class mean, in variances of a shot about it
SHRINKAGE = 0.9  # of the covariance within classes towards a multiple of I
KINDS = ("new", "negatives")
PARTS = ("base", "predicted", "other")  # "predicted": base classes without their own shots


class GPFilter:
    """Scores images one by one: a row's score depends on that row and the fit alone."""

    def __init__(self, others: Literal["new", "negatives"] = "new"):
        if others not in KINDS:
            raise ValueError(f"others is {others!r}; one of {', '.join(KINDS)}")
        self.others = others

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        base_text: np.ndarray,
        other_text: np.ndarray,
        *,
        logit_scale: float = 100.0,
        target_tpr: float = 0.95,
    ) -> Self:
        """Fits to the views features[N,P,E], labels[N] in 0..K-1, base_text[K,E], other_text[O,E].

        Rows need not be normalised, and a class may lack shots. After `fit`: held_out_[N,P], the
        score of every view as if its image had been left out, and threshold_, which a share of
        `target_tpr` of them reaches. The order of the shots changes no byte. Raises ValueError for
        arrays that do not fit together or are not finite.
        """
        views, labels, base, other = check_arrays(features, labels, base_text, other_text)
        if not 0 < target_tpr < 1:
            raise ValueError(f"target_tpr is {target_tpr}; it must be between 0 and 1")
        order = canonical_order(views.reshape(len(views), -1), labels)
        views, labels = views[order], labels[order]
        shots = unit_rows(views.mean(axis=1))
        mean = shots.mean(axis=0)
        process = NameProcess(base, other, shots - mean, labels)
        metric = ShrunkMetric(shots - mean, labels)
        has_names = self.others == "new" and len(other) > 0

        def part(text: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            weights, offsets = (IMAGE_SHARE * values for values in metric.linear(means))
            return text + weights, offsets - weights @ mean

        base, other = logit_scale * base, logit_scale * other
        no_offsets = np.zeros(len(other))
        self._named = np.array([float(has_names)])
        self._parts = {
            "base": part(base, process.means),
            "predicted": part(0 * base, process.predicted),
            "other": part(other, process.other_means) if has_names else (other, no_offsets),
        }
        scores, without = self._leave_out(views, mean, labels, (base, other), process, metric)
        self._scale = np.array([1.0, 0.0])
        if not has_names:
            self._scale = calibrate(scores, without, target_tpr)
        held_out = self._scale[0] * scores + self._scale[1]
        self.threshold_ = threshold_at_tpr(held_out, target_tpr)
        self.held_out_ = np.empty_like(held_out)
        self.held_out_[order] = held_out
        return self

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns float64 [N], the log-odds that features[N,E] show a base class.

        A row of zeros, which stands for an unreadable image, has log-odds 0. Scores are rounded to
        float32, so that other rows do not change a row's last bits. Raises ValueError before
        `fit`, and for rows of another width or not finite.
        """
        if not hasattr(self, "_parts"):
            raise ValueError("this GPFilter is not fitted: call fit or from_state first")
        rows, width = np.asarray(features, np.float64), self._parts["base"][0].shape[1]
        if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
            raise ValueError(f"features are {list(rows.shape)}; they must be finite, {width} wide")
        unit = unit_rows(rows)
        raw = self._raw(*(unit @ weights.T + offsets for weights, offsets in self._parts.values()))
        scores = (self._scale[0] * raw + self._scale[1]).astype(np.float32).astype(np.float64)
        return np.where(rows.any(axis=1), scores, 0.0)

    def state(self) -> dict[str, np.ndarray]:
        """Returns plain float64 arrays: named[1], scale[2], threshold[1], weights and offsets."""
        arrays = {"named": self._named, "scale": self._scale}
        arrays["threshold"] = np.array([self.threshold_])
        for name, (weights, offsets) in self._parts.items():
            arrays |= {f"{name}_weights": weights, f"{name}_offsets": offsets}
        return arrays

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Returns a filter that scores as the stored one did.

        Raises ValueError for wrong names or shapes.
        """
        shapes = {name: np.shape(values) for name, values in state.items()}
        rows, width = (*shapes.get("base_weights", ()), 0, 0)[:2]
        others = (*shapes.get("other_weights", ()), 0)[0]
        expected: dict[str, tuple[int, ...]] = {"named": (1,), "scale": (2,), "threshold": (1,)}
        for name, count in zip(PARTS, (rows, rows, others), strict=True):
            expected |= {f"{name}_weights": (count, width), f"{name}_offsets": (count,)}
        if shapes != expected:
            raise ValueError(f"not the state of a Gaussian-process filter: {shapes}")
        arrays = {name: np.asarray(values, np.float64) for name, values in state.items()}
        result = cls("new" if arrays["named"][0] else "negatives")
        result._parts = {n: (arrays[f"{n}_weights"], arrays[f"{n}_offsets"]) for n in PARTS}
        result._named, result._scale = arrays["named"], arrays["scale"]
        result.threshold_ = float(arrays["threshold"][0])
        return result

    def _raw(self, base: np.ndarray, predicted: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Returns [N]: log-mass of the base classes less that of what else the image may show."""
        log_odds = logsumexp(base, axis=1)
        if self._named[0]:
            return log_odds - logsumexp(other, axis=1)
        if other.shape[1]:
            log_odds = log_odds - NEGATIVE_SHARE * logsumexp(other, axis=1)
        return log_odds - logsumexp(predicted, axis=1)

    def _leave_out(
        self,
        views: np.ndarray,
        mean: np.ndarray,
        labels: np.ndarray,
        text: tuple[np.ndarray, np.ndarray],
        process: "NameProcess",
        metric: "ShrunkMetric",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns raw scores [N,P] of each view without its image, and without its whole class.

        The second array, which leaves out the shots and the name of the class, tells what an image
        of an unknown class looks like. It is NaN if it is not needed or no class remains.
        """
        own_means = process.leave_one_out_means(labels)
        targets = np.arange(len(labels)), labels  # index of each row's own class
        scores, without = np.full((2, *views.shape[:2]), np.nan)
        for view in range(views.shape[1]):
            rows = views[:, view]
            ratio = metric.leave_out(rows - mean)
            base = rows @ text[0].T
            own_logits = base[targets] + IMAGE_SHARE * ratio(own_means, paired=True)
            base = base + IMAGE_SHARE * ratio(process.means)
            base[targets] = own_logits
            predicted = IMAGE_SHARE * ratio(process.predicted)
            other = rows @ text[1].T
            if self._named[0]:
                other = other + IMAGE_SHARE * ratio(process.other_means)
            scores[:, view] = self._raw(base, predicted, other)
            if not self._named[0] and base.shape[1] > 1:
                base[targets] = predicted[targets] = -np.inf
                without[:, view] = self._raw(base, predicted, other)
        return scores, without


class NameProcess:
    """Class means as a Gaussian process over class names: similar names, similar means.

    cov(mu_k, mu_l) = tau^2 [rho t_k . t_l / mean |t|^2 + (1 - rho) (k = l)] per dimension, with t
    about the mean of the base names; the mean of n shots adds a variance of 1/n. The arrays are
    means[K,E], the posterior of the base classes; predicted[K,E], the same without a class's own
    shots; other_means[O,E], the prediction for classes known by name.
    """

    def __init__(self, text: np.ndarray, other: np.ndarray, shots: np.ndarray, labels: np.ndarray):
        """Takes text[K,E], other[O,E], shots[N,E] about their mean, labels[N] in 0..K-1."""
        self.shots, self.counts = shots, np.bincount(labels, minlength=len(text))
        seen = np.flatnonzero(self.counts)
        centre = text.mean(axis=0)
        base, others = text - centre, other - centre
        size = (base**2).sum(axis=1).mean() or 1.0  # a single name is its own centre
        self.sums = np.eye(len(text))[labels].T @ shots
        observed = self.sums[seen] / self.counts[seen, None]
        along = PRIOR_VARIANCE * NAME_SHARE / size * base @ base[seen].T  # [K,seen]
        prior = along.copy()
        prior[seen, np.arange(len(seen))] += PRIOR_VARIANCE * (1 - NAME_SHARE)
        inverse = np.linalg.inv(prior[seen] + np.diag(1 / self.counts[seen]))
        weights = inverse @ observed
        self.means = prior @ weights
        self.other_means = PRIOR_VARIANCE * NAME_SHARE / size * others @ base[seen].T @ weights
        # Without its own shots a class has the prediction y - [C^-1 y] / [C^-1]_kk. The variance is
        # 1 / [C^-1]_kk less the noise of its shots.
        self.predicted, self.variances = self.means.copy(), np.ones(len(text))
        self.predicted[seen] = observed - weights / np.diag(inverse)[:, None]
        self.variances[seen] = 1 / np.diag(inverse) - 1 / self.counts[seen]

    def leave_one_out_means(self, labels: np.ndarray) -> np.ndarray:
        """Returns [N,E]: the mean of each shot's class without that shot."""
        precision = 1 / self.variances[labels][:, None]
        others = self.counts[labels][:, None] - 1
        total = precision * self.predicted[labels] + self.sums[labels] - self.shots
        return total / (precision + others)


class ShrunkMetric:
    """inverse[E,E] of S = (1 - s) Sigma + s trace(Sigma)/E I, Sigma the covariance within classes.

    If no class has two different shots, Sigma is the covariance of all shots. If all shots are
    equal, the inverse is 0.
    """

    def __init__(self, shots: np.ndarray, labels: np.ndarray):
        """Takes shots[N,E] about their mean, labels[N]."""
        counts = np.bincount(labels)[labels]
        sums = np.zeros((labels.max() + 1, shots.shape[1]))
        np.add.at(sums, labels, shots)
        residual = shots - sums[labels] / counts[:, None]
        freedom = len(shots) - len(np.unique(labels))
        tiny = 1e-12 * max((shots**2).sum(), 1e-12)
        if (residual**2).sum() <= tiny:
            residual, freedom, counts = shots, max(len(shots) - 1, 1), np.zeros(len(shots))
        scatter, width = residual.T @ residual, shots.shape[1]
        if np.trace(scatter) <= 1e-12:
            self.inverse = np.zeros((width, width))
            self.rotated, self.gain = residual, np.zeros(len(shots))
            return
        ridge = SHRINKAGE * np.trace(scatter) / (freedom * width)
        self.inverse = np.linalg.inv((1 - SHRINKAGE) / freedom * scatter + ridge * np.eye(width))
        # Without one of n rows the scatter of its class loses n/(n-1) r r^T: one rank of S.
        lost = np.where(counts == 0, 1.0, counts / np.maximum(counts - 1, 1)) * (1 - SHRINKAGE)
        lost = lost / freedom
        self.rotated = residual @ self.inverse  # S^-1 r [N,E]
        removed = np.minimum(lost * (self.rotated * residual).sum(axis=1), 0.99)
        self.gain = lost / (1 - removed)  # [N], the factor of S^-1 r r^T S^-1

    def linear(self, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights[K,E] and offsets[K] of f -> log N(f; mu_k, S) - log N(f; 0, S)."""
        weights = means @ self.inverse
        return weights, -0.5 * (weights * means).sum(axis=1)

    def leave_out(self, rows: np.ndarray) -> Callable[..., np.ndarray]:
        """Returns a function of means[K,E] -> [N,K]: the ratios of `linear` without each shot.

        rows[N,E] hold one row per shot. The metric of each row has not seen that shot. With
        `paired`, the function takes means[N,E], one per row, and returns [N].
        """
        rotated, gain = self.rotated, self.gain
        along = (rows * rotated).sum(axis=1)

        def ratio(means: np.ndarray, paired: bool = False) -> np.ndarray:
            weights, offsets = self.linear(means)
            if paired:
                overlap = (rotated * means).sum(axis=1)
                linear = (rows * weights).sum(axis=1) + offsets
                return linear + gain * overlap * (along - overlap / 2)
            overlap = rotated @ means.T
            linear = rows @ weights.T + offsets
            return linear + gain[:, None] * overlap * (along[:, None] - overlap / 2)

        return ratio


def check_arrays(
    features: np.ndarray, labels: np.ndarray, base_text: np.ndarray, other_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the arrays of `fit`, rows of length 1 in float64. Raises ValueError as `fit` does."""
    views, labels = np.asarray(features, np.float64), np.asarray(labels)
    base, other = (np.asarray(text, np.float64) for text in (base_text, other_text))
    if views.ndim != 3 or 0 in views.shape or labels.shape != views.shape[:1]:
        raise ValueError(f"features {views.shape} and labels {labels.shape}; [N,P,E] and [N] fit")
    width = views.shape[2]
    if base.ndim != 2 or base.shape[1] != width or not len(base):
        raise ValueError(f"base_text is {base.shape}; [K,{width}] fits the features")
    other = other.reshape(0, width) if not other.size else other
    if other.ndim != 2 or other.shape[1] != width:
        raise ValueError(f"other_text is {other.shape}; [O,{width}] fits the features")
    labels = check_labels(labels, len(views), len(base))
    if not all(np.isfinite(values).all() for values in (views, base, other)):
        raise ValueError("features, base_text and other_text must be finite")
    return unit_rows(views), labels, unit_rows(base), unit_rows(other)


def threshold_at_tpr(scores: np.ndarray, target_tpr: float) -> float:
    """Returns the largest of the scores that at least a share of `target_tpr` of them reaches."""
    ordered = np.sort(scores, axis=None)
    below = int((1 - target_tpr) * ordered.size + 1e-9)  # 1 - .95 is a little more than .05
    return float(ordered[min(below, ordered.size - 1)])


def calibrate(scores: np.ndarray, without: np.ndarray, target_tpr: float) -> np.ndarray:
    """Returns (slope, offset) that turn raw scores into log-odds; the slope is in [0.01, 1].

    They come from logistic regression (Platt) of `scores` against as many scores `without` the
    class. If no class could be left out, the slope is 1 and the odds are even at the threshold.
    """
    if np.isnan(without).any():
        return np.array([1.0, -threshold_at_tpr(scores, target_tpr)])
    from sklearn.linear_model import LogisticRegression  # slow to import, and needed here only

    values = np.r_[scores.ravel(), without.ravel()]
    middle, spread = values.mean(), values.std() or 1.0
    is_base = np.arange(len(values)) < scores.size
    regression = LogisticRegression().fit((values[:, None] - middle) / spread, is_base)
    slope = regression.coef_[0, 0] / spread
    bounded_slope = np.clip(slope, 0.01, 1.0)
    even = middle - regression.intercept_[0] / slope if slope > 0.01 else middle
    return np.array([bounded_slope, -bounded_slope * even])
