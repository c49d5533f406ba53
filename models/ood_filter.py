"""Is an image of any base class? Names and shots of the base classes weighed against other names.

    filter = OodFilter(others="new").fit(features[N,P,E], labels[N], base_text[K,E], other_text[M,E],
                                         logit_scale=100.0, kept=0.95)
    filter.score(features[N,E]) -> float64 [N], log-odds of base; filter.threshold_ keeps 95 %
    filter.state() -> plain arrays; OodFilter.from_state(state)

`others="new"`: other_text are the names of all new classes. `others="negatives"`: the new classes
are unknown, other_text are words that are no base class; M may be 0. docs/ood.md has the rule as
formulas, its figures and how its five constants were chosen. The parts: CLIP's own logits; a shared
covariance as in GDA (Wang et al., ICLR 2024); class means that follow the names by a Gaussian
process, which also says where a class lies that has a name and no shot. The ratio to what the names
alone predict stands where relative Mahalanobis distance (Ren et al., 2021) has one Gaussian.

N shots, P views of each, K base classes, M other names, E embedding. Host, float64, closed form.
"""

from typing import Literal

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from models.lpplusplus_geometry import canonical_order, unit_rows
from models.ood_geometry import NameProcess, ShrunkMetric

IMAGE_SHARE = 0.04  # a: one image's log-likelihood ratio counts so much beside CLIP's logits
NEGATIVE_SHARE = 0.8  # of the negatives' log-mass
KINDS = ("new", "negatives")
STATE = ("base", "look", "other")  # each as {name}_weights[.,E] and {name}_offsets[.]


class OodFilter:
    """Inductive: a row's score depends on nothing but the row and the fit."""

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
        other_text[M,E]; rows need not be normalised. A class may lack shots.

        After fit: threshold_, the score that the share `kept` of the shots' views reaches, each
        scored as if its image had been left out; held_out_[N,P] those scores. The same bytes for
        any order of the shots. Raises ValueError for arrays that do not fit together.
        """
        views, labels, text, other = _checked(features, labels, base_text, other_text)
        if not 0 < kept < 1:
            raise ValueError(f"kept is {kept}; a share between 0 and 1")
        shots = unit_rows(views.mean(axis=1))
        order = canonical_order(shots, labels)
        views, shots, labels = views[order], shots[order], labels[order]
        mean = shots.mean(axis=0)
        centred = shots - mean
        process = NameProcess(text, other, centred, labels)
        metric = ShrunkMetric(centred, labels)
        self._parts = {
            "base": _linear(metric, mean, process.means, logit_scale * text),
            "look": _linear(metric, mean, process.predicted, 0 * text),
            "other": _linear(metric, mean, process.other_means, logit_scale * other)
            if self._named(len(other))
            else (logit_scale * other, np.zeros(len(other))),
        }
        self._scale = np.array([1.0, 0.0])  # slope, offset
        base, without = self._left_out(views, mean, labels, process, metric)
        if not self._named(len(other)):
            self._scale = calibration(base.ravel(), without.ravel(), kept)
        held_out = self._scaled(base)
        self.threshold_ = float(np.quantile(held_out, 1 - kept, method="lower"))
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
            raise ValueError(f"features are {list(rows.shape)}; finite [N,{width}] was fitted")
        unit = unit_rows(rows)
        logits = [unit @ weights.T + offsets for weights, offsets in self._parts.values()]
        found = self._scaled(self._raw(*logits)).astype(np.float32).astype(np.float64)
        return np.where(rows.any(axis=1), found, 0.0)

    def state(self) -> dict[str, np.ndarray]:
        """Plain float64 arrays (and named[1]); `from_state` takes them back."""
        arrays = {"named": np.array([float(self.others == "new")]), "scale": self._scale}
        arrays["threshold"] = np.array([self.threshold_])
        for name, (weights, offsets) in self._parts.items():
            arrays |= {f"{name}_weights": weights, f"{name}_offsets": offsets}
        return arrays

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "OodFilter":
        """One that scores as the stored one did. Raises ValueError for wrong names or shapes."""
        shapes = {name: np.shape(values) for name, values in state.items()}
        width = (shapes.get("base_weights", ()) + (0, 0))[1]
        wanted = {"named": (1,), "scale": (2,), "threshold": (1,)}
        for name in STATE:
            rows = (shapes.get(f"{name}_weights", ()) + (0,))[0]
            wanted |= {f"{name}_weights": (rows, width), f"{name}_offsets": (rows,)}
        if shapes != wanted or wanted["base_offsets"] != wanted["look_offsets"]:
            raise ValueError(f"not the state of an OOD filter: {shapes}")
        arrays = {name: np.asarray(values, np.float64) for name, values in state.items()}
        found = cls("new" if arrays["named"][0] else "negatives")
        found._parts = {n: (arrays[f"{n}_weights"], arrays[f"{n}_offsets"]) for n in STATE}
        found._scale, found.threshold_ = arrays["scale"], float(arrays["threshold"][0])
        return found

    def _named(self, others: int) -> bool:
        """Whether the new classes are known; with no name at all they are not."""
        return self.others == "new" and others > 0

    def _raw(self, base: np.ndarray, look: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Log-mass of the base classes [.,K] less that of what else it may be."""
        found = logsumexp(base, axis=1)
        if self._named(other.shape[1]):
            return found - logsumexp(other, axis=1)
        if other.shape[1]:
            found = found - NEGATIVE_SHARE * logsumexp(other, axis=1)
        return found - logsumexp(look, axis=1)

    def _scaled(self, raw: np.ndarray) -> np.ndarray:
        return self._scale[0] * raw + self._scale[1]

    def _left_out(self, views, mean, labels, process, metric) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores [N,P] of the shots as if each image had been left out, and as if its whole
        class had been (its name among the new ones where these are known).
        """
        own, rows = process.left_out_means(labels), np.arange(len(labels))
        scores, without = np.empty((2, *views.shape[:2]))
        for view in range(views.shape[1]):
            unit = views[:, view]
            centred = unit - mean
            text = {name: unit @ (part[0] - part[2]).T for name, part in self._text(metric).items()}
            ratio = metric.left_out(centred)
            base = text["base"] + IMAGE_SHARE * ratio(process.means)
            base[rows, labels] = text["base"][rows, labels] + IMAGE_SHARE * ratio(own, paired=True)
            look = IMAGE_SHARE * ratio(process.predicted)
            other = text["other"]
            if self._named(other.shape[1]):
                other = other + IMAGE_SHARE * ratio(process.other_means)
            scores[:, view] = self._raw(base, look, other)
            if len(process.means) > 1 and not self._named(other.shape[1]):
                base[rows, labels] = look[rows, labels] = -np.inf
                without[:, view] = self._raw(base, look, other)
            else:
                without[:, view] = np.nan
        return scores, without
