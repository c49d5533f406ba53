"""Learning from images whose labels nobody looks at: guesses as labels, and FixMatch's step."""

from collections.abc import Callable
from dataclasses import replace

import jittor as jt
import numpy as np
from scipy.special import softmax

from baselines.datasets.image_sets import ImageSet
from baselines.distillation import fixmatch
from engine.losses import class_cross_entropy


def guessed(
    whole: ImageSet, known: np.ndarray, others: np.ndarray, logits: np.ndarray, threshold: float
) -> ImageSet:
    """The images of rows `known` with their labels, then those of rows `others` whose largest
    probability reaches `threshold`, with their guess as label (Lee 2013).

    logits[M,C] of rows others[M]. The labels that `whole` has for them are not read.
    """
    guesses = softmax(logits, axis=1)
    sure = guesses.max(axis=1) >= threshold
    labels = np.empty(len(whole), int)
    labels[known], labels[others] = whole.labels[known], guesses.argmax(axis=1)
    print(f"{sure.sum()} of {len(sure)} images are labelled by guess", flush=True)
    return replace(whole, labels=labels).take(np.concatenate([known, others[sure]]))


def fixmatch_step(
    forward: Callable[[jt.Var], jt.Var], threshold: float
) -> Callable[[tuple], dict[str, jt.Var]]:
    """A training step on `baselines.batches.PairedBatches`: the labelled images' cross-entropy and
    FixMatch's. forward(images[B,3,R,R]) gives logits[B,C], a row by its image alone.
    """

    def step(batch: tuple) -> dict[str, jt.Var]:
        images, labels, weak, strong = batch
        with jt.no_grad():  # guesses teach, and are not taught
            guesses = forward(jt.array(weak))
        logits, size = forward(jt.array(np.concatenate([images, strong]))), len(images)
        loss, share = fixmatch(guesses, logits[size:], threshold)
        known = class_cross_entropy(logits[:size], labels)
        return {"loss": known + loss, "labels loss": known, "sure": share}

    return step
