"""One feature vector for the views of an image: MTA, ZERO, the mean, or the centre view.

MTA (Zanella & Ben Ayed, CVPR 2024) looks for a mode of the views by a mean shift. In it each view
counts by its inlierness, which is found together with the mode. ZERO (Farina et al., NeurIPS 2024)
lets the most confident views vote. View 0 is the centre view everywhere.

All methods are pure functions with the same arguments,

    method(views[B,P,E], text[C,E], *, logit_scale=100)
        -> (modes[B,E] unit rows, inlierness[B,P], rows that sum to 1)

B images, P views, C classes, E embedding. Views are made unit vectors. Text is taken as it is, so
that it may be the class vectors of a head. An image whose views are all zero could not be read: it
gets a zero mode and equal inlierness. Each image is treated by itself. Arithmetic is float64: in
float32 MTA differs from the public code by up to 9e-6.
"""

import numpy as np
from scipy.special import softmax

NEAREST = 0.3  # share of the other views that determine a view's bandwidth
LEAST_BANDWIDTH = 1e-8  # squared; duplicate crops would have a bandwidth of 0
ROUNDS, STEPS = 5, 5  # rounds over both blocks, and steps per block in a round
CONFIDENT = 0.3  # share of the views that vote in ZERO


def solve(
    views: np.ndarray,
    text: np.ndarray,
    *,
    logit_scale: float = 100,
    lambda_q: float = 4,
    lambda_y: float = 0.2,
) -> tuple[np.ndarray, np.ndarray]:
    """MTA: returns the mode of each image's views, and the inlierness of each view.

    Let f be the unit views, s = softmax(logit_scale f.t), A = s s^T, and D the squared distances
    between views. h2 is half the mean of D to the 30 % nearest other views, at least one: the
    public code gives NaN for four views or fewer. MTA starts from m = f_0 and y = 1/P. Five rounds
    repeat two blocks, of five steps each:

        y = softmax((exp(-|f-m|^2 / 2 h2) + lambda_q A y) / lambda_y)
        m = unit(sum of y exp(-|f-m|^2 / 2 h2) f)

    The numbers of steps are fixed; the public code stops a block once a step is shorter than 1e-6.
    m lies in the span of the views, so the loop needs only their Gram matrix. Memory is about
    4 B P P + 3 B P C + 2 B P E numbers at most. Raises ValueError for other shapes.
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
        """Returns -|f-m|^2 / 2 h2 [B,P] of every view, for m = sum of weights f."""
        products = _times(gram, weights)
        length = (weights * products).sum(-1, keepdims=True)
        return np.maximum(squares - 2 * products + length, 0) / (-2 * bandwidths)

    weights = np.zeros((images, count))  # m in terms of the views
    weights[:, 0] = 1  # m = f_0
    inlierness = np.full((images, count), 1 / count)
    for _ in range(ROUNDS):
        density = np.exp(exponents(weights))
        for _ in range(STEPS):
            pull = density + lambda_q * _times(affinity, inlierness)
            inlierness = softmax(pull / lambda_y, axis=-1)
        for _ in range(STEPS):
            # as a softmax, so that densities keep their proportions even if all of them underflow
            weights = softmax(exponents(weights) + np.log(inlierness), axis=-1)
            length = (weights * _times(gram, weights)).sum(-1, keepdims=True)
            weights = weights / _length_or_one(length)
    return _direction(rows, weights), inlierness


def _bandwidths(distances: np.ndarray) -> np.ndarray:
    """Returns squared bandwidths [B,P] of squared distances[B,P,P] between views."""
    k = max(1, int(NEAREST * (distances.shape[-1] - 1)))
    nearest = np.sort(distances, axis=-1)[:, :, 1 : k + 1]  # the first is the view itself
    return np.maximum(0.5 * nearest.mean(-1), LEAST_BANDWIDTH)


def zero(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """ZERO: the int(.3 P) views of lowest entropy, at least one, vote for their classes.

    The mode is the unit mean of the voters for the winning class. Each of them prefers this class,
    so their mean does too: argmax(modes.text) is the answer of ZERO. Inlierness is equal on these
    voters and 0 on the other views.

    If classes are tied, the most confident remaining view that votes for one of them decides. If
    there is none, the most confident remaining view decides by its cosines with the tied classes.
    The public code does the same, except that in this last case it masks the wrong classes. Of
    equal entropies, the earlier view comes first.
    """
    rows, text = _prepare(views, text)
    cosines = rows @ text.T  # [B,P,C]
    probabilities = softmax(cosines * logit_scale, axis=-1)
    entropies = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(-1)
    order = entropies.argsort(axis=1, kind="stable")
    count = max(1, int(order.shape[1] * CONFIDENT))
    voters = np.zeros(order.shape)
    for image, ranked in enumerate(order):
        votes = cosines[image].argmax(-1)
        next_view = ranked[min(count, len(ranked) - 1)]
        winner = _winner(votes[ranked], count, cosines[image, next_view])
        first = ranked[:count]
        voters[image, first[votes[first] == winner]] = 1
    weights = _normalize_weights(rows, voters)
    return _direction(rows, weights), weights


def average(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unit mean of the views, with equal inlierness."""
    rows, _ = _prepare(views, text)
    weights = np.full(rows.shape[:2], 1 / rows.shape[1])
    return _direction(rows, weights), weights


def take_centre(
    views: np.ndarray, text: np.ndarray, *, logit_scale: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centre view, whose inlierness is 1."""
    rows, _ = _prepare(views, text)
    first = np.zeros(rows.shape[:2])
    first[:, 0] = 1
    return rows[:, 0], _normalize_weights(rows, first)


METHODS = {"mta": solve, "zero": zero, "mean": average, "none": take_centre}


def _winner(votes: np.ndarray, count: int, next_cosines: np.ndarray) -> np.integer:
    """Returns the class that ZERO chooses.

    votes[P] are those of all views, the most confident first; the first `count` of them count.
    next_cosines[C] are those of the view after these.
    """
    counts = np.bincount(votes[:count], minlength=len(next_cosines))
    tied = counts == counts.max()
    remaining = votes[count:]
    decisive = remaining[tied[remaining]]
    if len(decisive):
        return decisive[0]
    return np.where(tied, next_cosines, -np.inf).argmax()


def _prepare(views: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit views[B,P,E] and text[C,E] in float64. Raises ValueError for other shapes."""
    shape = views.shape
    if len(shape) != 3 or text.ndim != 2 or shape[2] != text.shape[1] or not shape[1]:
        raise ValueError(f"views {shape} and text {text.shape} must be [B,P,E] and [C,E], P >= 1")
    rows = np.asarray(views, np.float64)
    rows = rows / _length_or_one((rows * rows).sum(-1, keepdims=True))
    return rows, np.asarray(text, np.float64)


def _length_or_one(squares: np.ndarray) -> np.ndarray:
    """Returns the square roots, with 1 instead of 0, so that one can divide by them."""
    return np.sqrt(np.where(squares > 0, squares, 1))


def _normalize_weights(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns weights[B,P] that sum to 1; equal ones for an image that could not be read."""
    broken = (rows * rows).sum((1, 2)) == 0
    weights = np.where(broken[:, None], 1, weights)
    return weights / weights.sum(1, keepdims=True)


def _direction(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns [B,E], unit vectors along the weighted sums of rows; zero if the sum is zero."""
    total = (weights[:, None, :] @ rows)[:, 0]
    return total / _length_or_one((total * total).sum(-1, keepdims=True))


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Returns [B,P], the product of matrices[B,P,P] and vectors[B,P] of each image."""
    return (matrices @ vectors[:, :, None])[:, :, 0]
