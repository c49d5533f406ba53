"""Is an image of any base class? Names and shots of the base classes weighed against other names.

    found = OodFilter(others="new").fit(
        features[N,P,E], labels[N], base_text[K,E], other_text[O,E], logit_scale=100.0, kept=0.95
    )
    found.score(features[N,E]) -> float64 [N], log-odds of base; found.threshold_ keeps 95 %
    found.state() -> plain arrays; OodFilter.from_state(state)

`others="new"`: other_text are the names of all new classes. `others="negatives"`: the new classes
are unknown, other_text are words that name no base class; O may be 0. docs/ood.md has the rule as
formulas, its figures and how its constants were chosen. Its parts: CLIP's own logits; a covariance
shared by the classes as in GDA (Wang et al., ICLR 2024); class means that follow the names by a
Gaussian process, so that they say where a class without a shot may lie. The ratio to what the names
predict stands where relative Mahalanobis distance (Ren et al., 2021) has one wide Gaussian.

N shots, P views of each, K base classes, O other names, E embedding. Host, float64, closed form.
"""

from typing import Literal

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from models.normalize import canonical_order, unit_rows
from models.ood.geometry import NameProcess, ShrunkMetric

IMAGE_SHARE = 0.04  # a: the log-likelihood ratio of an image counts so much beside CLIP's logits
NEGATIVE_SHARE = 0.8  # b: of the negatives' log-mass
KINDS = ("new", "negatives")
PARTS = ("base", "look", "other")


class OodFilter:
    """Inductive: a row's score depends on the row and the fit alone."""

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
        kept: float = 0.95,
    ) -> "OodFilter":
        """features[N,P,E] of the shots' views, labels[N] in 0..K-1, base_text[K,E],
        other_text[O,E]; rows need not be normalised, a class may lack shots.

        After fit: held_out_[N,P], the score of every view as if its image had been left out, and
        threshold_, which the share `kept` of them reaches. The same bytes for any order of the
        shots. Raises ValueError for arrays that do not fit together or are not finite.
        """
        views, labels, base, other = checked(features, labels, base_text, other_text)
        if not 0 < kept < 1:
            raise ValueError(f"kept is {kept}; a share between 0 and 1")
        flat = views.reshape(len(views), -1)
        order = canonical_order(flat, labels)
        views, labels = views[order], labels[order]
        shots = unit_rows(views.mean(axis=1))
        mean = shots.mean(axis=0)
        process = NameProcess(base, other, shots - mean, labels)
        metric = ShrunkMetric(shots - mean, labels)
        named = self.others == "new" and len(other) > 0  # new classes without a name are unknown

        def part(text: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            weights, offsets = (IMAGE_SHARE * values for values in metric.linear(means))
            return text + weights, offsets - weights @ mean

        base, other = logit_scale * base, logit_scale * other
        self._named = np.array([float(named)])
        self._parts = {
            "base": part(base, process.means),
            "look": part(0 * base, process.predicted),
            "other": part(other, process.other_means) if named else (other, np.zeros(len(other))),
        }
        scores, without = self._left_out(views, mean, labels, (base, other), process, metric)
        self._scale = np.array([1.0, 0.0]) if named else calibration(scores, without, kept)
        held_out = self._scale[0] * scores + self._scale[1]
        self.threshold_ = threshold_keeping(held_out, kept)
        self.held_out_ = np.empty_like(held_out)
        self.held_out_[order] = held_out
        return self

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64 [N], log-odds that features[N,E] show a base class; 0 for a row of zeros.

        Rounded to float32, so that the rows beside it do not change a row's last bits.
        """
        if not hasattr(self, "_parts"):
            raise ValueError("this OodFilter is not fitted: call fit or from_state")
        rows, width = np.asarray(features, np.float64), self._parts["base"][0].shape[1]
        if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
            raise ValueError(f"features are {list(rows.shape)}; finite rows {width} wide are due")
        unit = unit_rows(rows)
        raw = self._raw(*(unit @ weights.T + offsets for weights, offsets in self._parts.values()))
        found = (self._scale[0] * raw + self._scale[1]).astype(np.float32).astype(np.float64)
        return np.where(rows.any(axis=1), found, 0.0)

    def state(self) -> dict[str, np.ndarray]:
        """Plain float64 arrays: named[1], scale[2], threshold[1], and weights and offsets."""
        arrays = {"named": self._named, "scale": self._scale}
        arrays["threshold"] = np.array([self.threshold_])
        for name, (weights, offsets) in self._parts.items():
            arrays |= {f"{name}_weights": weights, f"{name}_offsets": offsets}
        return arrays

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "OodFilter":
        """One that scores as the stored one did. Raises ValueError for wrong names or shapes."""
        shapes = {name: np.shape(values) for name, values in state.items()}
        rows, width = (*shapes.get("base_weights", ()), 0, 0)[:2]
        others = (*shapes.get("other_weights", ()), 0)[0]
        wanted: dict[str, tuple[int, ...]] = {"named": (1,), "scale": (2,), "threshold": (1,)}
        for name, count in zip(PARTS, (rows, rows, others), strict=True):
            wanted |= {f"{name}_weights": (count, width), f"{name}_offsets": (count,)}
        if shapes != wanted:
            raise ValueError(f"not the state of an OOD filter: {shapes}")
        arrays = {name: np.asarray(values, np.float64) for name, values in state.items()}
        found = cls("new" if arrays["named"][0] else "negatives")
        found._parts = {n: (arrays[f"{n}_weights"], arrays[f"{n}_offsets"]) for n in PARTS}
        found._named, found._scale = arrays["named"], arrays["scale"]
        found.threshold_ = float(arrays["threshold"][0])
        return found

    def _raw(self, base: np.ndarray, look: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Log-mass [N] of the base classes less that of what else the image may be."""
        found = logsumexp(base, axis=1)
        if self._named[0]:
            return found - logsumexp(other, axis=1)
        if other.shape[1]:
            found = found - NEGATIVE_SHARE * logsumexp(other, axis=1)
        return found - logsumexp(look, axis=1)

    def _left_out(
        self,
        views: np.ndarray,
        mean: np.ndarray,
        labels: np.ndarray,
        text: tuple[np.ndarray, np.ndarray],
        process: NameProcess,
        metric: ShrunkMetric,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores [N,P] of each view without its image, and without its class: shots, name and
        all, which is what an image of an unknown class looks like. NaN there where that is not
        needed or no class remains.
        """
        own, at = process.left_out_means(labels), (np.arange(len(labels)), labels)
        scores, without = np.full((2, *views.shape[:2]), np.nan)
        for view in range(views.shape[1]):
            rows = views[:, view]
            ratio = metric.left_out(rows - mean)
            base = rows @ text[0].T
            own_logits = base[at] + IMAGE_SHARE * ratio(own, paired=True)
            base = base + IMAGE_SHARE * ratio(process.means)
            base[at] = own_logits
            look, other = IMAGE_SHARE * ratio(process.predicted), rows @ text[1].T
            if self._named[0]:
                other = other + IMAGE_SHARE * ratio(process.other_means)
            scores[:, view] = self._raw(base, look, other)
            if not self._named[0] and base.shape[1] > 1:
                base[at] = look[at] = -np.inf
                without[:, view] = self._raw(base, look, other)
        return scores, without


def checked(
    features: np.ndarray, labels: np.ndarray, base_text: np.ndarray, other_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arrays of `fit`, rows of length 1 in float64, or ValueError."""
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
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype}; one whole number a shot")
    if not 0 <= labels.min() <= labels.max() < len(base):
        raise ValueError(f"a label is outside 0..{len(base) - 1}, the rows of base_text")
    if not all(np.isfinite(values).all() for values in (views, base, other)):
        raise ValueError("features, base_text and other_text must be finite")
    return unit_rows(views), labels.astype(np.int64), unit_rows(base), unit_rows(other)


def threshold_keeping(scores: np.ndarray, kept: float) -> float:
    """The largest of the scores that at least the share `kept` of them reaches."""
    ordered = np.sort(scores, axis=None)
    lost = int((1 - kept) * ordered.size + 1e-9)  # 1 - .95 is a little more than .05
    return float(ordered[min(lost, ordered.size - 1)])


def calibration(scores: np.ndarray, without: np.ndarray, kept: float) -> np.ndarray:
    """(slope, offset) that make raw scores log-odds: logistic regression (Platt) of `scores`
    against `without`, as many of each; slope in [0.01, 1].

    Where no class could be left out: slope 1, and odds are even at the threshold.
    """
    if np.isnan(without).any():
        return np.array([1.0, -threshold_keeping(scores, kept)])
    values = np.r_[scores.ravel(), without.ravel()]
    middle, spread = values.mean(), values.std() or 1.0
    is_base = np.arange(len(values)) < scores.size
    fitted = LogisticRegression().fit((values[:, None] - middle) / spread, is_base)
    slope = fitted.coef_[0, 0] / spread
    kept_slope = np.clip(slope, 0.01, 1.0)
    even = middle - fitted.intercept_[0] / slope if slope > 0.01 else middle
    return np.array([kept_slope, -kept_slope * even])
