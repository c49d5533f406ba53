"""The linear classification protocol: an encoder that is shown to be frozen, and layers on top."""

from collections.abc import Callable

import jittor as jt
import numpy as np

from baselines.datasets.image_sets import ImageSet
from baselines.linear_probe import (
    FeatureRows,
    Probe,
    knn_scores,
    logistic_logits,
    weights_digest,
)
from baselines.results import write_result
from baselines.targets import Targets, classify
from baselines.trainer import Baseline
from engine.run_log import Run
from engine.schedules import warm_cosine
from fewshot.evaluation.metrics import accuracy


def linear_protocol(
    job: Baseline,
    run: Run,
    encoder: jt.nn.Module,
    forward: Callable[[jt.Var], jt.Var],
    sets: tuple[ImageSet, ImageSet],
    *,
    lr: float,
    layers: int = 1,
) -> dict:
    """Trains linear layers on features of the plain view, which are computed once; tests once.

    forward(images[B,3,R,R]) gives features[B,W] of `encoder`. sets: (train, val). Beside the
    layers' accuracy the result has that of nearest neighbours and of scikit-learn's logistic
    regression. Raises ArithmeticError where a byte of the encoder changed meanwhile.
    """
    config, (train, val) = job.config, sets
    encoder.eval()
    before = weights_digest(encoder)
    features, asked = (job.outputs(forward, images) for images in sets)
    classes = len(train.class_names)
    probe = job.build(lambda: Probe(features, classes, layers))
    rows = FeatureRows(features, train.labels, config.batch_size, config.seed)
    job.fit(
        run,
        probe,
        jt.optim.AdamW(probe.layers.parameters(), lr, weight_decay=config.weight_decay),
        Targets(rows, classes),
        classify(probe),
        warm_cosine(lr, config.epochs, len(rows)),
        (lambda: probe(jt.array(asked)).numpy(), val.labels),
    )
    test = job.test_set()
    tested = job.outputs(forward, test)
    if weights_digest(encoder) != before:
        raise ArithmeticError("the encoder changed while it was to be frozen")

    def share(scores: np.ndarray) -> float:
        return accuracy(scores.argmax(axis=1), test.labels)

    extra = {
        "knn": share(knn_scores(features, train.labels, classes, tested)),
        "logistic regression": share(logistic_logits(features, train.labels, classes, tested)),
        "encoder_sha256": before,
    }
    logits = probe(jt.array(tested)).numpy()
    return write_result(run, logits, test.labels, test.class_names, extra, job.sources)
