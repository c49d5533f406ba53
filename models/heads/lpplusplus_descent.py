"""The learning loops of LP++ in Jittor, with the gradients written out (no automatic derivative).

N rows, E embedding, C classes. Column sums are products with a row of ones: a product adds in
a fixed order, a parallel sum need not. Constants are variables and every step has the same shapes,
so that one small set of operators is compiled and serves all steps, folds and penalties.
"""

from dataclasses import dataclass

import jittor as jt
import numpy as np

from kernels import cpu_operator
from kernels import softmax_gradient as softmax
from models.heads.lpplusplus_geometry import largest_eigenvalue

OFFSET_SPREAD = 2.0  # standard deviation of an offset under the penalty, in that of a weight


def variable(values: np.ndarray | float) -> jt.Var:
    """A float32 array on the device; a number becomes [1,1]."""
    return jt.array(np.ascontiguousarray(np.atleast_2d(values), np.float32)).stop_grad()


class Problem:
    """The fixed arrays of one fit on the device.

    `mask` is 1 for rows that are learned from and 0 for rows held out, so that every fold has the
    same shapes.
    """

    def __init__(
        self, rows: np.ndarray, cosines: np.ndarray, labels: np.ndarray, learned: np.ndarray
    ):
        """rows[N,E], cosines[N,C] (c_ik = f_i . t_k), labels[N], learned[N] of bool."""
        self.rows = variable(rows)
        self.columns = variable(rows.T)  # [E,N]
        self.cosines = variable(cosines)
        self.labels = variable(labels[:, None])  # [N,1]
        self.targets = variable(np.eye(cosines.shape[1])[labels])  # [N,C]
        self.mask = variable(learned[:, None])  # [N,1]
        self.ones = variable(np.ones(len(rows)))  # [1,N]
        self.learned = learned
        self.count = int(learned.sum())
        self.shots = np.bincount(labels[learned], minlength=cosines.shape[1])  # [C]
        self.largest = largest_eigenvalue(rows[learned])


@dataclass
class Head:
    """What is learned: weights[E,C], alphas[1,C] (weight of the text) and offsets[1,C]."""

    weights: jt.Var
    alphas: jt.Var
    offsets: jt.Var

    @classmethod
    def start(cls, weights: np.ndarray, alpha: float) -> "Head":
        """weights[E,C], the same alpha for every class, no offsets."""
        classes = weights.shape[1]
        return cls(
            variable(weights), variable(np.full(classes, alpha)), variable(np.zeros(classes))
        )


def logits_of(problem: Problem, head: Head) -> jt.Var:
    """logits[N,C] = rows . w_k + alpha_k c_ik + b_k."""
    return jt.matmul(problem.rows, head.weights) + head.alphas * problem.cosines + head.offsets


def slopes(problem: Problem, head: Head) -> tuple[jt.Var, jt.Var, jt.Var, jt.Var]:
    """Sums over the learned rows of d/dw [E,C] and d/db [1,C]; also P - Y [N,C] and the
    cross-entropy of every row [N,1].
    """
    if cpu_operator.taken(problem.rows):
        products, cosines = jt.matmul(problem.rows, head.weights), problem.cosines
        difference, losses = softmax.slopes(
            products, head.alphas, cosines, head.offsets, problem.labels, problem.mask
        )
    else:
        difference, losses = plain_slopes(problem, logits_of(problem, head))
    to_weights = jt.matmul(problem.columns, difference)
    to_offsets = jt.matmul(problem.ones, difference)
    return to_weights, to_offsets, difference, losses


def plain_slopes(problem: Problem, logits: jt.Var) -> tuple[jt.Var, jt.Var]:
    """P - Y [N,C] of the learned rows and the cross-entropy of every row [N,1]."""
    top = logits.max(dim=1, keepdims=True)
    powers = jt.exp(logits - top)
    total = powers.sum(dim=1, keepdims=True)
    own = (logits * problem.targets).sum(dim=1, keepdims=True)
    difference = (powers / total - problem.targets) * problem.mask
    return difference, jt.log(total) + top - own


def mean_loss(problem: Problem, losses: jt.Var) -> float:
    """Mean cross-entropy of the learned rows, added up in float64."""
    return float(losses.numpy()[problem.learned, 0].astype(np.float64).mean())


class Descent:
    """Gradient steps on weights, with momentum, and offsets, without, at once; alpha stays.

    The loss is (1/M) [sum CE + rho/2 (sum ||w_k||^2 + sum b_k^2 / 4)] over the M learned rows.
    Each block has a step that, taken alone, never raises it: for w, 1 / (lambda/2 + rho), as the
    Hessian of the softmax is at most 1/2 (Boehning 1992); for b_k, 1 / (max(sum_i P_ik,
    n_k - r b_k) + r), r = rho/4, which stays short of the minimum of the bound of iterative
    scaling, sum_k [S_k (exp x_k - 1) - n_k x_k], S_k = sum_i P_ik. The loss is convex, so half of
    each, both at once, never raises it either.
    """

    def __init__(self, problem: Problem, head: Head, penalty: float, momentum: float):
        self.problem, self.head = problem, head
        self.penalty, self.offset_penalty = penalty, penalty / OFFSET_SPREAD**2
        self.rho, self.offset_rho = variable(penalty), variable(self.offset_penalty)
        self.step = variable(1 / (problem.largest + 2 * penalty))
        self.shots = variable(problem.shots + self.offset_penalty)  # n_k + r
        self.half, self.momentum = variable(0.5), variable(momentum)
        self.speed = variable(np.zeros(head.weights.shape))

    def update(self) -> jt.Var:
        """One step; returns the cross-entropy of every row before it [N,1]."""
        head = self.head
        to_weights, surplus, _, losses = slopes(self.problem, head)
        pull = self.offset_rho * head.offsets
        curvature = self.shots + jt.maximum(surplus, -pull)  # max(S_k, n_k - r b_k) + r
        self.speed = self.momentum * self.speed + to_weights + self.rho * head.weights
        head.weights = head.weights - self.step * self.speed
        head.offsets = head.offsets - self.half * (surplus + pull) / curvature
        jt.sync([head.weights, head.offsets, self.speed, losses])
        return losses

    def held_back(self) -> float:
        """The penalty's share of the loss."""
        weights = self.head.weights.numpy().ravel()
        offsets = self.head.offsets.numpy().astype(np.float64)
        size = float(weights @ weights)
        held = self.penalty * size + self.offset_penalty * float((offsets**2).sum())
        return held / 2 / self.problem.count


def descend(
    problem: Problem, head: Head, penalty: float, steps: int, momentum: float
) -> list[float]:
    """Moves `head` by `steps` updates; returns the loss before the first and after each of them."""
    descent = Descent(problem, head, penalty, momentum)
    history = []
    with jt.no_grad():
        for _ in range(steps):
            held = descent.held_back()
            history.append(mean_loss(problem, descent.update()) + held)
    return [
        *history,
        float(row_losses(problem, head)[problem.learned].mean()) + descent.held_back(),
    ]


def descend_quietly(problem: Problem, head: Head, penalty: float, steps: int) -> None:
    """The same with momentum .9 and without reading the loss, for the folds."""
    descent = Descent(problem, head, penalty, 0.9)
    with jt.no_grad():
        for _ in range(steps):
            descent.update()


def row_losses(problem: Problem, head: Head) -> np.ndarray:
    """Cross-entropy [N] of every row under the head, rows held out included; float64."""
    logits = logits_of(problem, head).numpy().astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    own = (logits * problem.targets.numpy()).sum(axis=1)
    return np.log(np.exp(logits).sum(axis=1)) - own


def descend_published(
    problem: Problem, head: Head, steps: int, momentum: float, cleared: bool
) -> list[float]:
    """The public code's updates; returns the mean cross-entropy before each of them.

    w and offset move together by 4N/lambda, twice the guaranteed step; alpha moves every tenth
    iteration by N / (4 max_k sum c_ik^2). Where the public code differs from its paper: alpha's
    gradient is never cleared, so each of its moves uses the sum over all iterations so far.
    cleared: use that iteration's alone, as the paper does.
    """
    squares = (problem.cosines.numpy().astype(np.float64) ** 2).sum(axis=0)  # [C] sum_i c_ik^2
    step, keep = variable(4 / problem.largest), variable(momentum)
    alpha_step, past = variable(1 / (4 * squares.max())), variable(0 if cleared else 1)
    offset_speed, summed = (variable(np.zeros(head.alphas.shape)) for _ in range(2))
    speed = variable(np.zeros(head.weights.shape))
    history = []
    with jt.no_grad():
        for iteration in range(1, steps + 1):
            to_weights, to_offsets, difference, losses = slopes(problem, head)
            speed = keep * speed + to_weights
            offset_speed = keep * offset_speed + to_offsets
            head.weights = head.weights - step * speed
            head.offsets = head.offsets - step * offset_speed
            summed = past * summed + jt.matmul(problem.ones, difference * problem.cosines)
            if iteration % 10 == 0:
                head.alphas = head.alphas - alpha_step * summed
            jt.sync([head.weights, head.alphas, head.offsets, speed, offset_speed, summed, losses])
            history.append(mean_loss(problem, losses))
    return history
