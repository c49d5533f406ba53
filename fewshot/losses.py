"""Losses that Jittor lacks."""

import jittor as jt
import numpy as np


def soft_cross_entropy(logits: jt.Var, targets: jt.Var) -> jt.Var:
    """Mean over rows of -sum(targets * log softmax(logits)); logits[N,C], targets[N,C] summing to 1
    a row.
    """
    shifted = logits - logits.max(dim=1, keepdims=True).stop_grad()
    log_probabilities = shifted - jt.log(jt.exp(shifted).sum(dim=1, keepdims=True))
    return -(targets * log_probabilities).sum(dim=1).mean()


def class_cross_entropy(logits: jt.Var, labels: np.ndarray) -> jt.Var:
    """Mean over rows of -log softmax(logits)[label]; logits[N,C], labels[N] in 0..C-1.

    Raises IndexError for a label of C or more, which Jittor's own would pass over.
    """
    return soft_cross_entropy(logits, jt.array(np.eye(logits.shape[1], dtype=np.float32)[labels]))


def contrastive(logits: jt.Var, same: jt.Var) -> jt.Var:
    """CLIP's symmetric loss (CLIP, figure 3) where several rows of a batch may carry the same
    caption.

    logits[N,N]: image i against caption j; same[N,N]: 1 where captions i and j are equal, else 0.
    The target of a row is spread evenly over all equal captions, which is CLIP's own loss when no
    caption repeats.
    """
    targets = same / same.sum(dim=1, keepdims=True)
    by_image = soft_cross_entropy(logits, targets)
    by_caption = soft_cross_entropy(logits.transpose(0, 1), targets)
    return (by_image + by_caption) / 2
