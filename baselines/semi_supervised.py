"""Learning from images without labels: pseudo-labels and FixMatch.

Sources: Lee 2013 (pseudo-labels); FixMatch (Sohn et al. 2020, https://arxiv.org/abs/2001.07685, eq.
4). B images, N rows, C classes.
"""

from collections.abc import Callable
from dataclasses import replace

import jittor as jt
import numpy as np
from scipy.special import softmax

from baselines.datasets.image_sets import ImageSet
from baselines.distillation import one_hot_argmax
from engine.losses import class_cross_entropy, soft_cross_entropy


def add_pseudo_labels(
    images: ImageSet,
    labelled: np.ndarray,
    unlabelled: np.ndarray,
    logits: np.ndarray,
    threshold: float,
) -> ImageSet:
    """Returns the images of rows `labelled`, then those of rows `unlabelled` with sure guesses.

    logits[M,C] belong to unlabelled[M]. A row is kept if its largest probability reaches
    `threshold`; that class becomes its label. The labels in `images` of unlabelled rows are never
    read.
    """
    probabilities = softmax(logits, axis=1)
    is_sure = probabilities.max(axis=1) >= threshold
    labels = np.empty(len(images), int)
    labels[labelled] = images.labels[labelled]
    labels[unlabelled] = probabilities.argmax(axis=1)
    print(f"{is_sure.sum()} of {len(is_sure)} unlabelled images get a pseudo-label", flush=True)
    return replace(images, labels=labels).take(np.concatenate([labelled, unlabelled[is_sure]]))


def fixmatch_loss(
    weak: jt.Var, strong: jt.Var, threshold: float = 0.95, temperature: float = 1.0
) -> tuple[jt.Var, jt.Var]:
    """Computes (loss, share of rows that take part) of FixMatch for unlabelled images.

    weak[N,C] and strong[N,C] are logits of two augmentations of the same images. The class of
    weak / temperature is the target of strong if its probability reaches `threshold`. The loss is
    the sum of these rows' cross-entropies divided by N.
    """
    probabilities = jt.nn.softmax(weak.stop_grad() / temperature, dim=1)
    is_sure = (probabilities.max(dim=1, keepdims=True) >= threshold).float32().stop_grad()
    return soft_cross_entropy(strong, one_hot_argmax(probabilities) * is_sure), is_sure.mean()


def fixmatch_step(
    forward: Callable[[jt.Var], jt.Var], threshold: float
) -> Callable[[tuple], dict[str, jt.Var]]:
    """Returns a training step for `baselines.batches.PairedBatches`.

    forward(images[B,3,R,R]) gives logits[B,C]; each row must depend on its image alone.
    """

    def step(batch: tuple) -> dict[str, jt.Var]:
        images, labels, weak, strong = batch
        with jt.no_grad():
            weak_logits = forward(jt.array(weak))
        logits = forward(jt.array(np.concatenate([images, strong])))
        unlabelled_loss, share = fixmatch_loss(weak_logits, logits[len(images) :], threshold)
        labelled_loss = class_cross_entropy(logits[: len(images)], labels)
        loss = labelled_loss + unlabelled_loss
        return {"loss": loss, "labels loss": labelled_loss, "sure": share}

    return step
