"""An image's draw follows from (seed, epoch, key): nothing else changes it."""

import threading

import numpy as np
import pytest

from baselines.batches import (
    AugmentedBatches,
    PairedBatches,
    RepeatedEpochs,
    SoftTargets,
    image_generator,
)
from baselines.datasets.image_sets import ImageSet
from baselines.datasets.registry import IMAGENET as NORM
from baselines.transforms import compose
from data.decoding import map_in_order
from engine.micro_batches import MicroBatches


def some_images(count, order=None):
    """Small noise images, each known by its number; `order` puts them elsewhere."""
    pixels = np.random.default_rng(9).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)[:count]
    keys = tuple(f"train/{number}" for number in range(count))
    images = ImageSet(pixels, np.arange(count) % 3, ("a", "b", "c"), keys)
    return images if order is None else images.take(order)


TRANSFORMS = (compose.cifar_transform(8, NORM),)


def by_key(batches, epoch):
    """key -> (bytes of each copy, label) of an epoch."""
    copies_by_key = {}
    for images, labels, rows in batches.epoch(epoch):
        copies = images if isinstance(images, tuple) else (images,)
        for place, row in enumerate(rows):
            key = batches.image_set.keys[row]
            assert key not in copies_by_key
            copies_by_key[key] = tuple(copy[place].tobytes() for copy in copies), int(labels[place])
    return copies_by_key


@pytest.mark.parametrize("copies", [1, 2])
def test_order_workers_and_batch_size_change_no_image(copies):
    def batches(count=12, size=4, order=None, workers=0):
        return AugmentedBatches(
            some_images(count, order), size, copies * TRANSFORMS, 5, workers=workers
        )

    plain = by_key(batches(), 3)
    assert len(plain) == 12
    order = np.random.default_rng(1).permutation(12)
    assert by_key(batches(order=order), 3) == plain
    assert by_key(batches(size=6), 3) == plain
    fewer = by_key(batches(count=10), 3)
    assert len(fewer) == 8 and fewer.items() <= plain.items()
    for workers in (1, 3, 5):
        threaded = batches(workers=workers)
        assert by_key(threaded, 3) == plain
        for one, other in zip(threaded.epoch(3), batches().epoch(3), strict=True):
            assert one[2].tolist() == other[2].tolist()


def test_each_seed_epoch_key_and_copy_draws_its_own():
    drawn = {
        image_generator(seed, epoch, key).integers(2**62)
        for seed in (0, 1)
        for epoch in (0, 1)
        for key in ("a", "b")
    }
    assert len(drawn) == 8
    batches = AugmentedBatches(some_images(12), 4, 2 * TRANSFORMS, 5)
    first, second = by_key(batches, 0), by_key(batches, 1)
    assert sum(views[0] != views[1] for views, _ in first.values()) > 9
    assert sum(first[key] != second[key] for key in first) > 9
    orders = [np.concatenate([rows for _, _, rows in batches.epoch(e)]).tolist() for e in (0, 1)]
    assert orders[0] != orders[1] and sorted(orders[0]) == list(range(12))


def test_shapes_labels_and_the_rest():
    batches = AugmentedBatches(some_images(11), 4, TRANSFORMS, 0)
    assert len(batches) == 2
    for images, labels, rows in batches.epoch(0):
        assert images.shape == (4, 3, 8, 8) and images.dtype == np.float32
        assert labels.dtype == np.int32
        assert labels.tolist() == (rows % 3).tolist()
    waiting = set(range(11))
    for epoch in range(8):  # what waits in one epoch comes in another
        waiting -= {int(row) for _, _, rows in batches.epoch(epoch) for row in rows}
    assert not waiting
    (small,) = AugmentedBatches(some_images(3), 64, TRANSFORMS, 0).epoch(0)
    assert small[0].shape == (3, 3, 8, 8)


def test_an_epoch_can_begin_in_its_middle():
    batches = AugmentedBatches(some_images(12), 4, TRANSFORMS, 5, workers=2)
    whole = list(batches.epoch(2))
    (last,) = batches.epoch(2, first=2)
    assert all((one == other).all() for one, other in zip(last, whole[2], strict=True))


def test_ranks_share_each_batch(monkeypatch):
    def epoch(count):
        parts = MicroBatches(count)
        batches = AugmentedBatches(some_images(12), 4, TRANSFORMS, 5, micro_batches=parts)
        return list(batches.epoch(1))

    whole, halves = epoch(1), []
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", str(rank))
        halves.append(epoch(2))
    for full, first, second in zip(whole, *halves, strict=True):
        for together, one, other in zip(full, first, second, strict=True):
            assert len(one) == len(other) == 2
            assert (together == np.concatenate([one, other])).all()


def paired(count=3, labelled=6, unlabelled=20, ratio=2):
    views = compose.weak_transform(8, NORM), compose.strong_transform(8, NORM)
    return PairedBatches(
        AugmentedBatches(some_images(labelled), count, views[:1], 1),
        AugmentedBatches(some_images(unlabelled), count, views, 1),
        ratio,
    )


def test_pairs_hold_one_labelled_batch_and_ratio_unlabelled_ones():
    batches = paired()
    steps = list(batches.epoch(0))
    assert len(steps) == len(batches) == 3
    for images, labels, weak, strong in steps:
        assert images.shape == (3, 3, 8, 8) and labels.shape == (3,)
        assert weak.shape == strong.shape == (6, 3, 8, 8)
        assert (weak != strong).any((1, 2, 3)).all()
    direct = list(batches.unlabelled.epoch(0))
    np.testing.assert_array_equal(steps[1][2][:3], direct[2][0][0])
    np.testing.assert_array_equal(steps[1][3][3:], direct[3][0][1])


def test_labelled_images_go_on_where_they_stood():
    batches = paired()  # 3 steps an epoch, labelled epochs of 2
    seen = [step[0] for epoch in range(4) for step in batches.epoch(epoch)]
    expected = [images for epoch in range(6) for images, _, _ in batches.labelled.epoch(epoch)]
    np.testing.assert_array_equal(np.stack(seen), np.stack(expected))


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="the image set is empty"):
        AugmentedBatches(some_images(0), 4, TRANSFORMS, 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        AugmentedBatches(some_images(4), 0, TRANSFORMS, 0)
    with pytest.raises(ValueError, match="4 rows cannot be cut into 5"):
        parts = MicroBatches(5)
        next(AugmentedBatches(some_images(4), 4, TRANSFORMS, 0, micro_batches=parts).epoch(0))
    with pytest.raises(ValueError, match="ratio is 7; .* 6, the number of unlabelled"):
        paired(ratio=7)
    single = AugmentedBatches(some_images(4), 4, TRANSFORMS, 0)
    with pytest.raises(ValueError, match="1 transforms of labelled and 1 of unlabelled"):
        PairedBatches(single, single, 1)


def test_threads_stay_two_items_ahead_and_hand_errors_on():
    started, lock = [], threading.Lock()

    def work(item):
        with lock:
            started.append(item)
        if item == 30:
            raise OSError("the disk is gone")
        return item

    results = map_in_order(work, range(40), 2)
    assert [next(results) for _ in range(5)] == list(range(5))
    assert max(started) < 5 + 4
    with pytest.raises(OSError, match="the disk is gone"):
        list(results)
    assert 39 not in started


def test_an_epoch_that_is_left_early_ends_its_threads():
    before = threading.active_count()
    epoch = AugmentedBatches(some_images(40), 4, TRANSFORMS, 0, workers=3).epoch(0)
    next(epoch)
    assert threading.active_count() > before
    epoch.close()
    assert threading.active_count() == before


def test_repeated_epochs_are_those_of_the_batches():
    batches = AugmentedBatches(some_images(16), 8, TRANSFORMS, 1)
    twice = RepeatedEpochs(batches, 2)
    assert len(twice) == 2 * len(batches) == 4
    rows = [rows.tolist() for _, _, rows in twice.epoch(1)]
    assert rows == [rows.tolist() for n in (2, 3) for _, _, rows in batches.epoch(n)]


def test_targets_are_smoothed_and_mixed():
    batches = AugmentedBatches(some_images(16), 8, TRANSFORMS, 1)
    (_, plain), _ = SoftTargets(batches, 3, smoothing=0.3).epoch(0)
    assert np.unique(plain).tolist() == pytest.approx([0.1, 0.8])
    mixed = [targets for _, targets in SoftTargets(batches, 3, mix=1.0).epoch(0)]
    again = [targets for _, targets in SoftTargets(batches, 3, mix=1.0).epoch(0)]
    assert all(targets.sum(axis=1) == pytest.approx(1) for targets in mixed)
    assert any(((targets > 0).sum(axis=1) > 1).any() for targets in mixed)
    assert all((one == two).all() for one, two in zip(mixed, again, strict=True))
