"""A queue of learned prompts, and the class vectors that their average gives.

An average over several epochs varies less than the prompt of one epoch. Text towers are far from
linear, so that features are averaged, not prompts. The queue is this kit's own. The Gaussian
weights over epochs follow PromptSRC (Khattak et al. 2023, https://arxiv.org/abs/2307.06948).
Shapes: Q entries of the queue, M context tokens, D width, C classes, E embedding.
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np

from models.normalize import unit_rows

EMPTY = -1  # the epoch of an empty entry
KINDS = ("uniform", "ema", "gaussian")


class PromptQueue(jt.Module):
    """The newest copies of a context, oldest first; a full queue drops its oldest entry.

    Both arrays are buffers, so that a checkpoint of the module has them: `contexts`[Q,M,D] (or
    [Q,C,M,D]) and `epochs`[Q], int32, -1 for an empty entry.
    """

    def __init__(self, length: int, shape: tuple[int, ...]):
        if length < 1:
            raise ValueError(f"a prompt queue of length {length} is too short; take 1 or more")
        self.contexts = jt.zeros((length, *shape)).stop_grad()
        self.epochs = jt.full((length,), EMPTY, dtype="int32").stop_grad()

    def push(self, epoch: int, context: np.ndarray) -> None:
        """Appends a copy of context[M,D] (or [C,M,D]), with which this epoch ended.

        Raises ValueError for a negative epoch or another shape.
        """
        shape = tuple(self.contexts.shape[1:])
        if epoch < 0:
            raise ValueError(f"epoch {epoch} is below 0, that of the untrained context")
        if context.shape != shape:
            raise ValueError(f"a context of shape {context.shape} in a queue of {shape}")
        newest = [*self.entries(), (epoch, context)][-len(self.epochs) :]
        contexts = np.zeros(self.contexts.shape, np.float32)
        epochs = np.full(len(self.epochs), EMPTY, np.int32)
        epochs[: len(newest)] = [epoch for epoch, _ in newest]
        contexts[: len(newest)] = [context for _, context in newest]
        self.contexts.update(jt.array(contexts))
        self.epochs.update(jt.array(epochs))

    def entries(self) -> list[tuple[int, np.ndarray]]:
        """Returns (epoch, context) of the filled entries, oldest first."""
        pairs = zip(self.epochs.numpy(), self.contexts.numpy(), strict=True)
        return [(int(epoch), context) for epoch, context in pairs if epoch != EMPTY]


def queue_weights(
    epochs: Sequence[int],
    kind: str,
    *,
    decay: float = 0.5,
    mean: float | None = None,
    spread: float = 2.0,
) -> np.ndarray:
    """Returns weights[Q], float64, with sum 1, of the entries of these epochs, oldest first.

    "uniform": equal weights. "ema": proportional to (1-g) g^(Q-j) for entry j = 1..Q; g is `decay`,
    in [0, 1). "gaussian": proportional to exp(-(e-mean)^2 / (2 spread^2)) for epoch e; `mean` is
    the last epoch by default, `spread` is in epochs. Raises ValueError for no entries, another
    kind, or a number out of range.
    """
    count = len(epochs)
    if not count:
        raise ValueError("the prompt queue is empty: push a context first")
    if kind not in KINDS:
        raise ValueError(f"weights {kind!r} are none of {', '.join(KINDS)}")
    if not 0 <= decay < 1 or not spread > 0:
        raise ValueError(f"decay {decay} must be in [0, 1) and spread {spread} above 0")
    if kind == "uniform":
        weights = np.ones(count)
    elif kind == "ema":
        weights = (1 - decay) * np.float64(decay) ** np.arange(count - 1, -1, -1)
    else:
        middle = epochs[-1] if mean is None else mean
        exponents = -((np.asarray(epochs, np.float64) - middle) ** 2) / (2 * spread**2)
        weights = np.exp(exponents - exponents.max())  # no 0 / 0 if the mean is far away
    return weights / weights.sum()


def average_entries(entry_features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns class vectors q[C,E] = n(sum_j w_j n(f_j)), float32, of f[Q,C,E] and weights[Q].

    n divides rows by their norm; sums run in float64. Raises ValueError if the shapes do not fit,
    there is no entry, or the weights do not sum to 1.
    """
    shape = entry_features.shape
    if len(shape) != 3 or not shape[0] or weights.shape != shape[:1]:
        shapes = f"features {shape}, weights {weights.shape}"
        raise ValueError(f"{shapes}: expected [Q,C,E] with [Q], and Q of at least 1")
    if not abs(weights.sum() - 1) < 1e-6:
        raise ValueError(f"the weights of the prompt queue sum to {weights.sum()}, not to 1")
    unit = unit_rows(entry_features.reshape(-1, shape[2]).astype(np.float64)).reshape(shape)
    if len(weights) == 1:  # a second division could change the last bits
        return unit[0].astype(np.float32)
    return unit_rows(np.einsum("q,qce->ce", weights, unit)).astype(np.float32)


def blend_with_sentences(
    queue_vectors: np.ndarray, sentence_vectors: np.ndarray, beta: float
) -> np.ndarray:
    """Returns class vectors v[C,E] = n((1-beta) q + beta h), float32, of unit rows q and h [C,E].

    beta in [0, 1] is the share of the hand-made sentences h; 0 gives q and 1 gives h, bit for bit.
    Raises ValueError for other shapes or another beta.
    """
    if queue_vectors.ndim != 2 or queue_vectors.shape != sentence_vectors.shape:
        shapes = f"{queue_vectors.shape} and {sentence_vectors.shape}"
        raise ValueError(f"class vectors of shapes {shapes}: both must be the same [C,E]")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta {beta} is a share, in [0, 1]")
    if beta in (0, 1):  # dividing again would change the last bits
        return (sentence_vectors if beta else queue_vectors).astype(np.float32)
    q, h = queue_vectors.astype(np.float64), sentence_vectors.astype(np.float64)
    return unit_rows((1 - beta) * q + beta * h).astype(np.float32)
