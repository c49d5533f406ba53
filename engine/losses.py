"""Losses that Jittor lacks. Axes: N rows, C classes."""

import jittor as jt
import numpy as np


def soft_cross_entropy(logits: jt.Var, targets: jt.Var) -> jt.Var:
    """Returns the mean over rows of -sum(targets * log softmax(logits)).

    logits[N,C]; targets[N,C], each row of which sums to 1.
    """
    shifted = logits - logits.max(dim=1, keepdims=True).stop_grad()
    log_probabilities = shifted - jt.log(jt.exp(shifted).sum(dim=1, keepdims=True))
    return -(targets * log_probabilities).sum(dim=1).mean()


def soft_targets(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """Returns float32 targets[N,C]: one-hot rows of labels[N], smoothed.

    The label gets 1 - smoothing, and all C classes share `smoothing` evenly. This is the label
    smoothing of Szegedy et al. 2016 and of torch's cross-entropy. Raises IndexError for a label
    outside 0..C-1, and ValueError for a smoothing outside [0, 1).
    """
    labels = np.asarray(labels)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise IndexError(f"labels run from {labels.min()} to {labels.max()}, classes are {classes}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; it must lie within 0 and 1, 1 excluded")
    targets = np.full((len(labels), classes), smoothing / classes, np.float32)
    targets[np.arange(len(labels)), labels] += np.float32(1 - smoothing)
    return targets


def class_cross_entropy(logits: jt.Var, labels: np.ndarray, smoothing: float = 0.0) -> jt.Var:
    """Returns the cross-entropy of logits[N,C] with labels[N], smoothed as in `soft_targets`.

    Raises IndexError for a label outside 0..C-1, which Jittor's own loss ignores.
    """
    return soft_cross_entropy(logits, jt.array(soft_targets(labels, logits.shape[1], smoothing)))


def contrastive_loss(logits: jt.Var, same: jt.Var) -> jt.Var:
    """Returns CLIP's symmetric loss (CLIP, figure 3) for batches in which captions may repeat.

    logits[N,N]: image i against caption j. same[N,N]: 1 if captions i and j are equal, else 0.
    The target of a row is spread evenly over all equal captions. If no caption repeats, this is
    CLIP's own loss.
    """
    targets = same / same.sum(dim=1, keepdims=True)
    by_image = soft_cross_entropy(logits, targets)
    by_caption = soft_cross_entropy(logits.transpose(0, 1), targets)
    return (by_image + by_caption) / 2
