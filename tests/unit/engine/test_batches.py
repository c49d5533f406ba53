"""Steps see every row once an epoch, follow from (seed, epoch), and hold the classes they need."""

import numpy as np
import pytest
from PIL import Image

from data.views import Crops
from engine.batches import ClassSampler, FeatureBatches, ImageBatches
from jclip.preprocess import to_array

LABELS = np.arange(6).repeat(4)  # 24 rows
EVERY = ClassSampler(0, 6, 0)


def features(views=5):
    return np.random.default_rng(0).normal(size=(24, views, 8)).astype(np.float32)


def test_an_epoch_is_a_shuffle_without_the_remainder():
    batches = FeatureBatches(features(1), LABELS, 10, EVERY, 3)
    assert len(batches) == 2
    rows = np.concatenate([images for images, _, _ in batches.epoch(0)])
    assert len(np.unique(rows, axis=0)) == 20
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)  # float32
    again = np.concatenate([images for images, _, _ in batches.epoch(0)])
    assert again.tobytes() == rows.tobytes()
    second = np.concatenate([images for images, _, _ in batches.epoch(1)])
    assert (second != rows).any()


def test_views_change_between_epochs():
    views = features()
    unit = views / np.linalg.norm(views, axis=2, keepdims=True)
    seen = set()
    for epoch in range(20):
        for images, targets, _ in FeatureBatches(views, LABELS, 24, EVERY, 0).epoch(epoch):
            for image, label in zip(images, targets, strict=True):
                row, view = np.argwhere(np.isclose(unit, image, atol=1e-6).all(axis=2))[0]
                assert LABELS[row] == label
                seen.add((row, view))
    assert len(seen) > 100  # of 120 pairs


def test_few_rows_are_one_batch():
    assert len(FeatureBatches(features(), LABELS, 100, EVERY, 0)) == 1


def test_drawn_classes_hold_the_batch():
    batches = FeatureBatches(features(), LABELS, 3, ClassSampler(4, 6, 3), 0)
    drawn = set()
    for images, targets, classes in batches.epoch(1):
        assert len(classes) == 4 and (np.diff(classes) > 0).all() and len(images) == 3
        assert targets.max() < 4
        drawn.add(tuple(classes))
    assert len(drawn) > 1
    for _, targets, classes in batches.epoch(2):  # from here on all of them
        assert classes.tolist() == list(range(6)) and targets.max() < 6


def test_targets_point_at_the_labels():
    views = np.eye(24, dtype=np.float32)[:, None]  # the feature tells the row
    batches = FeatureBatches(views, LABELS, 3, ClassSampler(4, 6, 9), 0)
    for images, targets, classes in batches.epoch(0):
        assert classes[targets].tolist() == LABELS[images.argmax(axis=1)].tolist()


def test_too_few_classes_for_a_batch_is_an_error():
    with pytest.raises(ValueError, match="has 6 classes, but a step takes 2"):
        list(FeatureBatches(features(), LABELS, 24, ClassSampler(2, 6, 9), 0).epoch(0))


@pytest.fixture
def paths(tmp_path):
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(24)]


def image_batches(paths, workers):
    settings = {"side": 16, "to_array": to_array, "crops": Crops(), "workers": workers}
    return ImageBatches(paths, LABELS, 10, EVERY, 5, **settings)


def test_crops_do_not_depend_on_workers_and_change_with_the_epoch(paths):
    epochs = [
        [images.tobytes() for images, _, _ in image_batches(paths, workers).epoch(epoch)]
        for workers, epoch in ((0, 0), (2, 0), (0, 1))
    ]
    assert epochs[0] == epochs[1] and len(epochs[0]) == 2
    assert not set(epochs[0]) & set(epochs[2])


def test_a_broken_training_image_stops_with_its_name(paths):
    paths[7].write_bytes(b"no picture")
    with pytest.raises(ValueError, match="training image cannot be read: .*7.png"):
        for epoch in range(2):  # an epoch may leave 4 of 24 images out
            list(image_batches(paths, 0).epoch(epoch))
