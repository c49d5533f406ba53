"""What LP++ reads off the shots: the metric and the weight of the text."""

import numpy as np

from models.heads.lpplusplus_geometry import metric, text_weight


def test_metric_scales_rows_to_one_and_knows_the_within_class_shape():
    rng = np.random.default_rng(0)
    labels = np.arange(4).repeat(50)
    rows = np.eye(4, 8)[labels] * 5 + rng.standard_normal((200, 8)) * np.array([1] * 7 + [9])
    mean, transform = metric(rows, labels)
    mapped = (rows - mean) @ transform
    assert np.isclose((mapped**2).sum(axis=1).mean(), 1)
    # the direction that only varies within classes is shrunk against one that tells them apart
    assert np.linalg.norm(transform[7]) < 0.5 * np.linalg.norm(transform[0])


def test_text_weight():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 5
    assert text_weight(np.eye(5)[labels], labels) == 100.0  # perfect text keeps CLIP's weight
    assert text_weight(-np.eye(5)[labels], labels) == 0.0  # misleading text loses it
    cosines = 0.1 * np.eye(5)[labels] + 0.1 * rng.standard_normal((50, 5))
    found = text_weight(cosines, labels)

    def loss(weight):
        return (
            np.log(np.exp(weight * cosines).sum(1)) - weight * cosines[range(50), labels]
        ).mean()

    losses = [loss(found - 0.5), loss(found), loss(found + 0.5)]
    assert 0 < found < 100 and losses[1] == min(losses)
