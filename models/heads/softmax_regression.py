"""Softmax regression next to text logits, in Jittor, with the gradients written out.

    logits[N,C] = rows . w_c + alpha_c cos(row, t_c) + b_c

Column sums are products with a row of ones: a product adds in a fixed order, a parallel sum need
not. Constants are variables and every step has the same shapes, so that one small set of operators
is compiled and serves all steps, folds and penalties. Shapes: N rows, E embedding, C classes.
"""

import jittor as jt
import numpy as np

from kernels import cpu_operator
from kernels.softmax_gradient import softmax_gradient

OFFSET_SPREAD = 2.0  # standard deviation of an offset under the penalty, in that of a weight


def variable(values: np.ndarray | float) -> jt.Var:
    """Returns a float32 array on the device; a number becomes [1,1]."""
    return jt.array(np.ascontiguousarray(np.atleast_2d(values), np.float32)).stop_grad()


class SoftmaxRegression:
    """The fixed arrays of one fit on the device, and its variables: weights, alphas and offsets.

    Rows with `is_training` False are held out: they have a loss and no influence on the gradient,
    so that all folds share the same shapes.
    """

    def __init__(
        self,
        rows: np.ndarray,
        cosines: np.ndarray,
        labels: np.ndarray,
        is_training: np.ndarray,
        alpha: float,
        weights: np.ndarray | None = None,
    ):
        """Takes rows[N,E], cosines[N,C] with the text, labels[N], is_training[N] of bool.

        The start is weights[E,C] (zeros by default), the same alpha for all classes, no offsets.
        """
        classes = cosines.shape[1]
        self.rows = variable(rows)
        self.columns = variable(rows.T)  # [E,N]
        self.cosines = variable(cosines)
        self.labels = variable(labels[:, None])  # [N,1]
        self.targets = variable(np.eye(classes)[labels])  # [N,C]
        self.mask = variable(is_training[:, None])  # [N,1]
        self.ones = variable(np.ones(len(rows)))  # [1,N]
        self.is_training = is_training
        self.shots = np.bincount(labels[is_training], minlength=classes)  # [C]
        self.largest_eigenvalue = largest_eigenvalue(rows[is_training])
        start = np.zeros((rows.shape[1], classes)) if weights is None else weights
        self.weights = variable(start)  # [E,C]
        self.alphas = variable(np.full(classes, alpha))  # [1,C]
        self.offsets = variable(np.zeros(classes))  # [1,C]

    def logits(self) -> jt.Var:
        """Returns logits[N,C] of all rows."""
        return jt.matmul(self.rows, self.weights) + self.alphas * self.cosines + self.offsets

    def gradient(self) -> tuple[jt.Var, jt.Var, jt.Var, jt.Var]:
        """Returns the derivatives of the training rows' summed cross-entropy, and what they need.

        These are d/dw [E,C], d/db [1,C], the difference P - Y of probabilities and targets [N,C],
        and the cross-entropy of every row [N,1].
        """
        if cpu_operator.accepts(self.rows):
            products = jt.matmul(self.rows, self.weights)
            difference, losses = softmax_gradient(
                products, self.alphas, self.cosines, self.offsets, self.labels, self.mask
            )
        else:
            difference, losses = self._plain_difference()
        to_weights = jt.matmul(self.columns, difference)
        to_offsets = jt.matmul(self.ones, difference)
        return to_weights, to_offsets, difference, losses

    def _plain_difference(self) -> tuple[jt.Var, jt.Var]:
        """Returns what `kernels.softmax_gradient` does, by Jittor's operators."""
        logits = self.logits()
        top = logits.max(dim=1, keepdims=True)
        powers = jt.exp(logits - top)
        total = powers.sum(dim=1, keepdims=True)
        target_logits = (logits * self.targets).sum(dim=1, keepdims=True)
        difference = (powers / total - self.targets) * self.mask
        return difference, jt.log(total) + top - target_logits

    def mean_loss(self, losses: jt.Var) -> float:
        """Returns the mean of losses[N,1] over the training rows, added up in float64."""
        return float(losses.numpy()[self.is_training, 0].astype(np.float64).mean())

    def row_losses(self) -> np.ndarray:
        """Returns the cross-entropy [N] of every row in float64, held-out rows included."""
        logits = self.logits().numpy().astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        target_logits = (logits * self.targets.numpy()).sum(axis=1)
        return np.log(np.exp(logits).sum(axis=1)) - target_logits


def largest_eigenvalue(rows: np.ndarray) -> float:
    """Returns the largest eigenvalue of rows.T @ rows, from the smaller Gram matrix."""
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(gram)[-1])


def descend(
    regression: SoftmaxRegression,
    penalty: float,
    steps: int,
    momentum: float,
    record_losses: bool = True,
) -> list[float]:
    """Updates weights (with momentum) and offsets (without) at once; alphas stay.

    Returns the loss before the first and after each update, or nothing without `record_losses`.

    The loss is (1/M) [sum CE + rho/2 (sum ||w_k||^2 + sum b_k^2 / 4)] over the M training rows.
    Each block has a step that, taken alone, never raises it. For w this is 1 / (lambda/2 + rho),
    because the Hessian of the softmax is at most 1/2 (Boehning 1992). For b_k it is
    1 / (max(sum_i P_ik, n_k - r b_k) + r), r = rho/4, which stays short of the minimum of the bound
    of iterative scaling, sum_k [S_k (exp x_k - 1) - n_k x_k], S_k = sum_i P_ik. The loss is convex,
    so half of each, both at once, never raises it either.
    """
    offset_penalty = penalty / OFFSET_SPREAD**2
    rho, offset_rho = variable(penalty), variable(offset_penalty)
    step = variable(1 / (regression.largest_eigenvalue + 2 * penalty))
    shots = variable(regression.shots + offset_penalty)  # n_k + r
    half, decay = variable(0.5), variable(momentum)
    speed = variable(np.zeros(regression.weights.shape))
    history = []

    def penalty_loss() -> float:
        weights = regression.weights.numpy().ravel()
        offsets = regression.offsets.numpy().astype(np.float64)
        total = penalty * float(weights @ weights) + offset_penalty * float((offsets**2).sum())
        return total / 2 / int(regression.is_training.sum())

    with jt.no_grad():
        for _ in range(steps):
            penalty_before = penalty_loss() if record_losses else 0.0
            to_weights, surplus, _, losses = regression.gradient()
            pull = offset_rho * regression.offsets
            curvature = shots + jt.maximum(surplus, -pull)  # max(S_k, n_k - r b_k) + r
            speed = decay * speed + to_weights + rho * regression.weights
            regression.weights = regression.weights - step * speed
            regression.offsets = regression.offsets - half * (surplus + pull) / curvature
            jt.sync([regression.weights, regression.offsets, speed, losses])
            if record_losses:
                history.append(regression.mean_loss(losses) + penalty_before)
    if record_losses:
        final_losses = regression.row_losses()[regression.is_training]
        history.append(float(final_losses.mean()) + penalty_loss())
    return history
