"""A queue of learned prompts, and the class vectors that their average gives.

Averaging the prompts of several epochs steadies what one epoch learned. Text towers are far from
linear, so the average is taken of features, not of prompts. The queue is this kit's own; Gaussian
weights over epochs follow PromptSRC (Khattak et al. 2023, https://arxiv.org/abs/2307.06948).
Shapes: Q entries of the queue, M context tokens, D width, C classes, E embedding.
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np

from models.normalize import unit_rows

EMPTY = -1  # the epoch of a place that holds nothing yet
KINDS = ("uniform", "ema", "gaussian")


class PromptQueue(jt.Module):
    """The newest copies of a context, oldest first; a full queue drops its oldest.

    Both arrays are buffers, so a checkpoint of the module holds the queue: `contexts`[Q,M,D] (or
    [Q,C,M,D]) and `epochs`[Q], int32, -1 where a place is empty.
    """

    def __init__(self, length: int, shape: tuple[int, ...]):
        if length < 1:
            raise ValueError(f"a prompt queue of length {length} holds nothing; take 1 or more")
        self.contexts = jt.zeros((length, *shape)).stop_grad()
        self.epochs = jt.full((length,), EMPTY, dtype="int32").stop_grad()

    def push(self, epoch: int, context: np.ndarray) -> None:
        """Takes in a copy of the context[M,D] (or [C,M,D]) that this epoch ended with.

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
        epochs[: len(newest)] = [one for one, _ in newest]
        contexts[: len(newest)] = [one for _, one in newest]
        self.contexts.update(jt.array(contexts))
        self.epochs.update(jt.array(epochs))

    def entries(self) -> list[tuple[int, np.ndarray]]:
        """(epoch, context) of the filled places, oldest first."""
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
    """Weights[Q], float64, summing to 1, of the entries of these epochs, oldest first.

    "uniform": all alike. "ema": (1-g) g^(Q-j) for entry j = 1..Q, scaled to sum 1; g is `decay`, in
    [0, 1). "gaussian": exp(-(e-mean)^2 / (2 spread^2)) of epoch e, scaled to sum 1; `mean` is the
    last epoch by default, `spread` counts epochs. Raises ValueError for no entries, another kind,
    or a number out of range.
    """
    places = len(epochs)
    if not places:
        raise ValueError("the prompt queue is empty: push a context first")
    if kind not in KINDS:
        raise ValueError(f"weights {kind!r} are none of {', '.join(KINDS)}")
    if not 0 <= decay < 1 or not spread > 0:
        raise ValueError(f"decay {decay} must be in [0, 1) and spread {spread} above 0")
    if kind == "uniform":
        weights = np.ones(places)
    elif kind == "ema":
        weights = (1 - decay) * np.float64(decay) ** np.arange(places - 1, -1, -1)
    else:
        middle = epochs[-1] if mean is None else mean
        exponents = -((np.asarray(epochs, np.float64) - middle) ** 2) / (2 * spread**2)
        weights = np.exp(exponents - exponents.max())  # a mean far away leaves no 0 / 0
    return weights / weights.sum()


def average(entry_features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Class vectors q[C,E] = n(sum_j w_j n(f_j)), float32, of features[Q,C,E] and weights[Q].

    n divides rows by their norm; sums run in float64. Raises ValueError where the shapes do not
    fit, there is no entry, or the weights do not sum to 1.
    """
    shape = entry_features.shape
    if len(shape) != 3 or not shape[0] or weights.shape != shape[:1]:
        raise ValueError(
            f"features of shape {shape} with weights of shape {weights.shape}: "
            "expected [Q,C,E] with [Q], and Q of at least 1"
        )
    if not abs(weights.sum() - 1) < 1e-6:
        raise ValueError(f"the weights of the prompt queue sum to {weights.sum()}, not to 1")
    unit = unit_rows(entry_features.reshape(-1, shape[2]).astype(np.float64)).reshape(shape)
    if len(weights) == 1:  # already the answer; a second division could move its last bit
        return unit[0].astype(np.float32)
    return unit_rows(np.einsum("q,qce->ce", weights, unit)).astype(np.float32)


def with_sentences(
    queue_vectors: np.ndarray, sentence_vectors: np.ndarray, beta: float
) -> np.ndarray:
    """Class vectors v[C,E] = n((1-beta) q + beta h), float32, of unit rows q[C,E] and h[C,E].

    beta in [0, 1] is the share of the hand-made sentences h; 0 gives q and 1 gives h, bit for bit.
    Raises ValueError for other shapes or another beta.
    """
    if queue_vectors.ndim != 2 or queue_vectors.shape != sentence_vectors.shape:
        raise ValueError(
            f"class vectors of shapes {queue_vectors.shape} and {sentence_vectors.shape}: "
            "both must be the same [C,E]"
        )
    if not 0 <= beta <= 1:
        raise ValueError(f"beta {beta} is a share, in [0, 1]")
    if beta in (0, 1):  # unit rows of float32 would move in their last bits if divided again
        return (sentence_vectors if beta else queue_vectors).astype(np.float32)
    q, h = queue_vectors.astype(np.float64), sentence_vectors.astype(np.float64)
    return unit_rows((1 - beta) * q + beta * h).astype(np.float32)
