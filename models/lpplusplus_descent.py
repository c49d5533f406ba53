"""The learning loops of LP++ in Jittor, with the gradients written out (no automatic derivative).

N rows, E embedding, C classes. Column sums are products with a row of ones: a product adds in
a fixed order, a parallel sum need not. Constants are variables and every step has the same shapes,
so that one small set of operators is compiled and serves all steps, folds and penalties.
"""

from dataclasses import dataclass

import jittor as jt
import numpy as np

from models.lpplusplus_geometry import largest_eigenvalue


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
        self.targets = variable(np.eye(cosines.shape[1])[labels])  # [N,C]
        self.mask = variable(learned[:, None])  # [N,1]
        self.ones = variable(np.ones(len(rows)))  # [1,N]
        self.learned = learned
        self.count = int(learned.sum())
        self.largest = largest_eigenvalue(rows[learned])
        self.squares = (cosines[learned] ** 2).sum(axis=0)  # [C] sum_i c_ik^2


@dataclass
class Head:
    """What moves: weights[E,C] and alphas[1,C]. `anchor` is where alpha starts and is drawn to."""

    weights: jt.Var
    alphas: jt.Var
    anchor: float

    @classmethod
    def start(cls, weights: np.ndarray, anchor: float) -> "Head":
        """weights[E,C], and every alpha at the anchor."""
        return cls(variable(weights), variable(np.full(weights.shape[1], anchor)), anchor)


def slopes(problem: Problem, logits: jt.Var) -> tuple[jt.Var, jt.Var, jt.Var, jt.Var]:
    """Sums over the learned rows of d/dw [E,C] and d/dalpha [1,C]; also P - Y [N,C] and the
    cross-entropy of every row [N,1].
    """
    top = logits.max(dim=1, keepdims=True)
    powers = jt.exp(logits - top)
    total = powers.sum(dim=1, keepdims=True)
    own = (logits * problem.targets).sum(dim=1, keepdims=True)
    difference = (powers / total - problem.targets) * problem.mask
    to_weights = jt.matmul(problem.columns, difference)
    to_alphas = jt.matmul(problem.ones, difference * problem.cosines)
    return to_weights, to_alphas, difference, jt.log(total) + top - own


def logits_of(problem: Problem, head: Head) -> jt.Var:
    """logits[N,C] = rows . w_k + alpha_k c_ik."""
    return jt.matmul(problem.rows, head.weights) + head.alphas * problem.cosines


def mean_loss(problem: Problem, losses: jt.Var) -> float:
    """Mean cross-entropy of the learned rows, added up in float64."""
    return float(losses.numpy()[problem.learned, 0].astype(np.float64).mean())


class Descent:
    """Gradient steps with momentum on both blocks at once.

    The loss is (1/M) [sum CE + rho/2 (sum ||w_k||^2 + mean(c^2) sum (alpha_k - anchor)^2)] over
    the M learned rows: one rho holds back a change of either kind by its size in the logits.
    The Hessian of the softmax is at most 1/2 (Boehning 1992), so with both blocks moving at once
    M / (lambda + 2 rho) for w and M / (sum_i c_ik^2 + 2 rho mean(c^2)) for alpha_k never raise it.
    """

    def __init__(self, problem: Problem, head: Head, penalty: float, momentum: float):
        self.problem, self.head, self.penalty = problem, head, penalty
        self.alpha_penalty = penalty * float(problem.squares.mean()) / problem.count
        self.step = variable(1 / (problem.largest + 2 * penalty))
        self.alpha_step = variable(1 / (problem.squares + 2 * self.alpha_penalty))
        self.rho, self.alpha_rho = variable(penalty), variable(self.alpha_penalty)
        self.anchor, self.momentum = variable(head.anchor), variable(momentum)
        self.speed = variable(np.zeros(head.weights.shape))
        self.alpha_speed = variable(np.zeros(head.alphas.shape))

    def update(self) -> jt.Var:
        """One step; returns the cross-entropy of every row before it [N,1]."""
        head = self.head
        to_weights, to_alphas, _, losses = slopes(self.problem, logits_of(self.problem, head))
        to_weights += self.rho * head.weights
        to_alphas += self.alpha_rho * (head.alphas - self.anchor)
        self.speed = self.momentum * self.speed + to_weights
        self.alpha_speed = self.momentum * self.alpha_speed + to_alphas
        head.weights = head.weights - self.step * self.speed
        head.alphas = head.alphas - self.alpha_step * self.alpha_speed
        jt.sync([head.weights, head.alphas, self.speed, self.alpha_speed, losses])
        return losses

    def held_back(self) -> float:
        """The penalty's share of the loss."""
        weights = self.head.weights.numpy().astype(np.float64)
        moved = self.head.alphas.numpy().astype(np.float64) - self.head.anchor
        sizes = self.penalty * (weights**2).sum() + self.alpha_penalty * (moved**2).sum()
        return float(sizes) / 2 / self.problem.count


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
    problem: Problem, head: Head, steps: int, momentum: float
) -> tuple[np.ndarray, list[float]]:
    """The public code's updates; returns offsets[C] and the mean cross-entropy before each update.

    w and offset move together by 4N/lambda, twice the guaranteed step; alpha moves every tenth
    iteration by N / (4 max_k sum_i c_ik^2). Where the public code differs from its paper: alpha's
    gradient is never cleared, so each of its moves uses the sum over all iterations so far.
    """
    step, keep = variable(4 / problem.largest), variable(momentum)
    alpha_step = variable(1 / (4 * problem.squares.max()))
    offset, offset_speed, summed = (variable(np.zeros(head.alphas.shape)) for _ in range(3))
    speed = variable(np.zeros(head.weights.shape))
    history = []
    with jt.no_grad():
        for iteration in range(1, steps + 1):
            logits = logits_of(problem, head) + offset
            to_weights, to_alphas, difference, losses = slopes(problem, logits)
            speed = keep * speed + to_weights
            offset_speed = keep * offset_speed + jt.matmul(problem.ones, difference)
            head.weights = head.weights - step * speed
            offset = offset - step * offset_speed
            summed = summed + to_alphas
            if iteration % 10 == 0:
                head.alphas = head.alphas - alpha_step * summed
            jt.sync([head.weights, head.alphas, offset, speed, offset_speed, summed, losses])
            history.append(mean_loss(problem, losses))
    return offset.numpy()[0], history
