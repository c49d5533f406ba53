"""One vector for the views of an image: MTA, ZERO, their mean, or the centre view.

MTA (Zanella & Ben Ayed, CVPR 2024) looks for a mode of the views, a mean shift in which each view
counts by its inlierness, found together with the mode. ZERO (Farina et al., NeurIPS 2024) lets the
surest views vote. View 0 is the centre view everywhere, B images, P views, C classes, E embedding.

All are pure functions of one call form,

    method(views[B,P,E], text[C,E], *, logit_scale=100)
        -> (modes[B,E] unit rows, inlierness[B,P] summing to 1)

in float64: in float32 MTA comes as far as 9e-6 from the public code. Views are made unit vectors,
text is taken as it is: a head's class vectors serve too. An image whose views are all zero (it
could not be read) gets a zero mode and equal inlierness. Each image is by itself.
"""

import numpy as np
from scipy.special import softmax

NEAREST = 0.3  # share of the other views that set a view's bandwidth
LEAST_BANDWIDTH = 1e-8  # squared; duplicate crops have none of their own
ROUNDS, STEPS = 5, 5  # of both blocks; steps of each block in a round
CONFIDENT = 0.3  # share of the views that vote in ZERO


def solve(
    views: np.ndarray,
    text: np.ndarray,
    *,
    logit_scale: float = 100,
    lambda_q: float = 4,
    lambda_y: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """MTA: the mode of each image's views and how far each view belongs to it.

    With unit views f, s = softmax(logit_scale f.t), A = s s', D the squared distances of views and
    h2 half the mean D to the 30 % nearest others (at least one, where the public code gives NaN
    for four views or fewer), from m = f_0 and y = 1/P, five times: five times
    y = softmax((exp(-|f-m|^2 / 2 h2) + lambda_q A y) / lambda_y), then five times
    m = unit(sum of y exp(-|f-m|^2 / 2 h2) f).

    Counts are fixed; the public code stops within them once a step is shorter than 1e-6. m lies in
    the span of the views, so the loop needs only their Gram matrix. Memory: at most about
    4 B P P + 3 B P C + 2 B P E numbers; the caller cuts images into chunks. Raises ValueError on
    other shapes.
    """
    rows, text = _prepare(views, text)
    images, count, _ = rows.shape
    if count == 1:
        return rows[:, 0], np.ones((images, 1))
    probabilities = softmax(rows @ text.T * logit_scale, axis=-1)  # [B,P,C]
    affinity = probabilities @ probabilities.transpose(0, 2, 1)  # [B,P,P]
    gram = rows @ rows.transpose(0, 2, 1)
    squares = (rows * rows).sum(-1)  # 1, or 0 for an unreadable image
    distances = np.maximum(squares[:, :, None] + squares[:, None, :] - 2 * gram, 0)
    bandwidths = _bandwidths(distances)  # h2 [B,P]

    def exponents(weights: np.ndarray) -> np.ndarray:
        """-|f-m|^2 / 2 h2 [B,P] of every view, for m = sum of weights f."""
        products = _times(gram, weights)
        length = (weights * products).sum(-1, keepdims=True)
        return np.maximum(squares - 2 * products + length, 0) / (-2 * bandwidths)

    weights = np.zeros((images, count))  # m in terms of the views
    weights[:, 0] = 1  # the centre view
    inlierness = np.full((images, count), 1 / count)
    for _ in range(ROUNDS):
        density = np.exp(exponents(weights))
        for _ in range(STEPS):
            pull = density + lambda_q * _times(affinity, inlierness)
            inlierness = softmax(pull / lambda_y, axis=-1)
        for _ in range(STEPS):
            # a softmax, so that densities which all underflow still have their proportions
            weights = softmax(exponents(weights) + np.log(inlierness), axis=-1)
            length = (weights * _times(gram, weights)).sum(-1, keepdims=True)
            weights = weights / _length_or_one(length)
    return _direction(rows, weights), inlierness


def _bandwidths(distances: np.ndarray) -> np.ndarray:
    """[B,P], squared, of squared distances[B,P,P] of views."""
    k = max(1, int(NEAREST * (distances.shape[-1] - 1)))
    nearest = np.sort(distances, axis=-1)[:, :, 1 : k + 1]  # the first is the view itself
    return np.maximum(0.5 * nearest.mean(-1), LEAST_BANDWIDTH)


def zero(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """ZERO: int(.3 P) views of the lowest entropy, at least one, vote for their classes.

    modes: the unit mean of the voters for the winning class. Each prefers this class, so their mean
    does too: argmax(modes.text) is ZERO's answer. inlierness: equal on these voters, 0 elsewhere.
    Of tied classes that one wins which the next surest of the remaining views votes for; where none
    of these votes for one of them, the one which the surest of these likes best. So the
    public code, but for a slip in that last case, where it hides other classes than it means to.
    Equal entropies: the earlier view first.
    """
    rows, text = _prepare(views, text)
    cosines = rows @ text.T  # [B,P,C]
    probabilities = softmax(cosines * logit_scale, axis=-1)
    entropies = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(-1)
    order = entropies.argsort(axis=1, kind="stable")
    kept = max(1, int(order.shape[1] * CONFIDENT))
    voters = np.zeros(order.shape)
    for image, ranked in enumerate(order):
        votes = cosines[image].argmax(-1)
        winner = _winner(votes[ranked], kept, cosines[image, ranked[min(kept, len(ranked) - 1)]])
        voters[image, ranked[:kept][votes[ranked[:kept]] == winner]] = 1
    weights = _read_or_equal(rows, voters)
    return _direction(rows, weights), weights


def mean(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """The unit mean of the views, all equally inlying."""
    rows, _ = _prepare(views, text)
    weights = np.full(rows.shape[:2], 1 / rows.shape[1])
    return _direction(rows, weights), weights


def centre(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """The centre view, which alone is inlying."""
    rows, _ = _prepare(views, text)
    first = np.zeros(rows.shape[:2])
    first[:, 0] = 1
    return rows[:, 0], _read_or_equal(rows, first)


METHODS = {"mta": solve, "zero": zero, "mean": mean, "none": centre}


def _winner(votes: np.ndarray, kept: int, next_cosines: np.ndarray) -> np.integer:
    """ZERO's class: votes[P] of all views, surest first, and cosines[C] of the view after those
    kept.
    """
    counts = np.bincount(votes[:kept], minlength=len(next_cosines))
    tied = counts == counts.max()
    breaking = votes[kept:][tied[votes[kept:]]]
    return breaking[0] if len(breaking) else np.where(tied, next_cosines, -np.inf).argmax()


def _prepare(views: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(unit views[B,P,E], text[C,E]), float64; raises ValueError."""
    shape = views.shape
    if len(shape) != 3 or text.ndim != 2 or shape[2] != text.shape[1] or not shape[1]:
        raise ValueError(f"views {shape} and text {text.shape} must be [B,P,E] and [C,E], P >= 1")
    rows = np.asarray(views, np.float64)
    rows = rows / _length_or_one((rows * rows).sum(-1, keepdims=True))
    return rows, np.asarray(text, np.float64)


def _length_or_one(squares: np.ndarray) -> np.ndarray:
    """The square root; 1 where that is 0, so that one can divide by it."""
    return np.sqrt(np.where(squares > 0, squares, 1))


def _read_or_equal(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """weights[B,P] made to sum to 1; equal ones for an image that could not be read."""
    broken = (rows * rows).sum((1, 2)) == 0
    weights = np.where(broken[:, None], 1, weights)
    return weights / weights.sum(1, keepdims=True)


def _direction(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The unit vector along sum of weights rows, [B,E]; zero where the sum is zero."""
    total = (weights[:, None, :] @ rows)[:, 0]
    return total / _length_or_one((total * total).sum(-1, keepdims=True))


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[B,P,P] times [B,P] -> [B,P], image by image."""
    return (matrices @ vectors[:, :, None])[:, :, 0]
