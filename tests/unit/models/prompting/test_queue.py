"""The order of the queue and its checkpoint, and averages against numbers computed by hand."""

from pathlib import Path

import jittor as jt
import numpy as np
import pytest

from engine import checkpoint
from models.normalize import unit_rows
from models.prompting.queue import PromptQueue, average_entries, blend_with_sentences, queue_weights
from weight_files import safe_load

SHAPE = (2, 3)  # [M,D] of the queued contexts
ROUNDING = 1e-12  # float64, numbers near 1


def context_of(epoch: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng((7, epoch)).normal(size=shape).astype(np.float32)


def pushed(epochs: list[int], length: int = 3) -> PromptQueue:
    queue = PromptQueue(length, SHAPE)
    for epoch in epochs:
        queue.push(epoch, context_of(epoch))
    return queue


def vectors(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return unit_rows(rows.astype(np.float64)).astype(np.float32)


@pytest.mark.parametrize(
    ("epochs", "left"), [([], []), ([5], [5]), ([1, 4, 6], [1, 4, 6]), ([0, 2, 4, 6, 8], [4, 6, 8])]
)
def test_the_oldest_leaves_a_full_queue(epochs, left):
    entries = pushed(epochs).entries()
    assert [epoch for epoch, _ in entries] == left
    for epoch, context in entries:
        np.testing.assert_array_equal(context, context_of(epoch))


def test_a_queue_of_one_holds_the_newest():
    ((epoch, context),) = pushed([3, 5], length=1).entries()
    assert epoch == 5
    np.testing.assert_array_equal(context, context_of(5))


def test_a_copy_is_queued():
    context = context_of(0)
    queue = PromptQueue(2, SHAPE)
    queue.push(0, context)
    context[:] = 0
    np.testing.assert_array_equal(queue.entries()[0][1], context_of(0))


def test_contexts_of_each_class_fit_too():
    queue = PromptQueue(2, (4, *SHAPE))
    queue.push(1, context_of(1, (4, *SHAPE)))
    np.testing.assert_array_equal(queue.entries()[0][1], context_of(1, (4, *SHAPE)))


@pytest.mark.parametrize("before", [1, 3, 5])
def test_a_restored_queue_goes_on_as_if_never_stopped(tmp_path, before):
    epochs = list(range(7))
    path = tmp_path / "checkpoint.pkl"
    checkpoint.save(path, checkpoint.module_arrays(pushed(epochs[:before])))
    queue = PromptQueue(3, SHAPE)
    checkpoint.restore_module(queue, safe_load(path), path)
    for epoch in epochs[before:]:
        queue.push(epoch, context_of(epoch))
    ours, unbroken = queue.entries(), pushed(epochs).entries()
    assert [epoch for epoch, _ in ours] == [epoch for epoch, _ in unbroken] == [4, 5, 6]
    np.testing.assert_array_equal([c for _, c in ours], [c for _, c in unbroken])
    assert queue.contexts.is_stop_grad() and queue.epochs.is_stop_grad()
    assert queue.epochs.dtype == "int32"


def test_a_queue_of_another_length_is_refused():
    arrays = checkpoint.module_arrays(pushed([1]))
    with pytest.raises(ValueError, match="parts.pkl.*contexts, epochs"):
        checkpoint.restore_module(PromptQueue(4, SHAPE), arrays, Path("parts.pkl"))


def test_training_mode_does_not_make_the_queue_learn():
    queue = pushed([1])
    queue.eval()
    queue.train()
    assert queue.contexts.is_stop_grad() and queue.epochs.is_stop_grad()


def test_wrong_pushes_are_refused():
    with pytest.raises(ValueError, match="length 0"):
        PromptQueue(0, SHAPE)
    with pytest.raises(ValueError, match="epoch -1"):
        PromptQueue(1, SHAPE).push(-1, context_of(0))
    with pytest.raises(ValueError, match=r"shape \(1, 3\) in a queue of \(2, 3\)"):
        PromptQueue(1, SHAPE).push(0, np.zeros((1, 3), np.float32))


def test_weights_by_hand():
    def close(weights: np.ndarray, by_hand: list[float]) -> None:
        assert weights.dtype == np.float64
        np.testing.assert_allclose(weights, by_hand, rtol=0, atol=ROUNDING)

    close(queue_weights([2, 4, 6], "uniform"), [1 / 3, 1 / 3, 1 / 3])
    # g = 1/2: 1/8, 1/4, 1/2 sum to 7/8, so 1/7, 2/7, 4/7
    close(queue_weights([2, 4, 6], "ema"), [1 / 7, 2 / 7, 4 / 7])
    # g = 0.9: 0.1 of 0.81, 0.9, 1 sum to 0.271
    close(queue_weights([2, 4, 6], "ema", decay=0.9), [0.081 / 0.271, 0.09 / 0.271, 0.1 / 0.271])
    close(queue_weights([2, 4, 6], "ema", decay=0.0), [0, 0, 1])
    # spread 2 about epoch 6: exp(-2), exp(-1/2), 1 = 0.1353352832, 0.6065306597, 1
    by_hand = np.array([np.exp(-2), np.exp(-0.5), 1]) / (np.exp(-2) + np.exp(-0.5) + 1)
    close(queue_weights([2, 4, 6], "gaussian"), by_hand)
    np.testing.assert_allclose(by_hand, [0.0777, 0.3482, 0.5741], rtol=0, atol=5e-5)
    # about 4, spread 1: the outer two are alike, exp(-2) each
    side = np.exp(-2) / (1 + 2 * np.exp(-2))
    close(
        queue_weights([2, 4, 6], "gaussian", mean=4, spread=1),
        [side, 1 - 2 * side, side],
    )


@pytest.mark.parametrize("kind", ["uniform", "ema", "gaussian"])
@pytest.mark.parametrize("epochs", [[0], [3, 3], list(range(0, 1000, 7))])
def test_weights_sum_to_one(kind, epochs):
    for options in ({}, {"decay": 0.999, "mean": -1e6, "spread": 0.1}):
        weights = queue_weights(epochs, kind, **options)
        assert weights.shape == (len(epochs),) and (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([], "uniform"), {}, "queue is empty"),
        (([1], "mean"), {}, "'mean' are none of uniform, ema, gaussian"),
        (([1], "ema"), {"decay": 1.0}, "decay 1.0"),
        (([1], "gaussian"), {"spread": 0.0}, "spread 0.0"),
        (([1], "gaussian"), {"spread": float("nan")}, "spread nan"),
    ],
)
def test_wrong_weights_are_refused(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        queue_weights(*arguments, **options)


def test_average_by_hand():
    # Two entries, one class: (3, 4) has unit row (.6, .8), (0, 5) has (0, 1). With weights 1/4 and
    # 3/4 the mean is (.15, .95), whose norm is sqrt(.0225 + .9025) = sqrt(.925).
    features = np.array([[[3, 4]], [[0, 5]]], np.float32)
    q = average_entries(features, np.array([0.25, 0.75]))
    by_hand = np.array([[0.15, 0.95]]) / 0.925**0.5
    np.testing.assert_allclose(q, by_hand, rtol=0, atol=1e-7)  # float32 out
    # With h = (1, 0) and beta = 1/2: the sum q + h, divided by its norm.
    v = blend_with_sentences(q, np.array([[1, 0]], np.float32), 0.5)
    total = by_hand + [[1, 0]]
    np.testing.assert_allclose(v, total / np.sqrt((total**2).sum()), rtol=0, atol=2e-7)
    assert q.dtype == v.dtype == np.float32


def test_one_entry_without_sentences_is_the_plain_prompt():
    features, h = vectors(1, 5, 8), unit(vectors(5, 8, seed=2))
    for kind in ("uniform", "ema", "gaussian"):
        q = average_entries(features, queue_weights([4], kind))
        v = blend_with_sentences(q, h, 0)
        assert v.tobytes() == q.tobytes() == unit(features[0]).tobytes()


def test_sentences_alone_are_the_ensemble():
    q, h = unit(vectors(5, 8)), unit(vectors(5, 8, seed=2))
    assert blend_with_sentences(q, h, 1).tobytes() == h.tobytes()


def test_order_matters_only_through_the_weights():
    features, weights = vectors(4, 5, 8), queue_weights([1, 2, 3, 4], "ema")
    order = np.array([2, 0, 3, 1])
    whole, moved = (
        average_entries(features, weights),
        average_entries(features[order], weights[order]),
    )
    np.testing.assert_allclose(moved, whole, rtol=0, atol=1e-7)  # one rounding to float32
    assert np.abs(average_entries(features[order], weights) - whole).max() > 0.01


def test_reloading_changes_no_byte(tmp_path):
    path, h = tmp_path / "queue.pkl", unit(vectors(2, 3, seed=2))

    def class_vectors(queue: PromptQueue) -> bytes:
        epochs, contexts = zip(*queue.entries(), strict=True)
        q = average_entries(np.stack(contexts), queue_weights(epochs, "gaussian"))
        return blend_with_sentences(q, h, 0.5).tobytes()

    queue, restored = pushed([1, 3, 5]), PromptQueue(3, SHAPE)
    checkpoint.save(path, checkpoint.module_arrays(queue))
    checkpoint.restore_module(restored, safe_load(path), path)
    assert class_vectors(restored) == class_vectors(queue)


@pytest.mark.parametrize(
    ("shape", "weights", "match"),
    [
        ((0, 2, 3), [], "Q of at least 1"),
        ((2, 3), [0.5, 0.5], r"expected \[Q,C,E\]"),
        ((2, 2, 3), [1.0], r"expected \[Q,C,E\]"),
        ((2, 2, 3), [0.5, 0.6], "sum to 1.1, not to 1"),
        ((2, 2, 3), [0.5, float("nan")], "sum to nan"),
    ],
)
def test_wrong_averages_are_refused(shape, weights, match):
    with pytest.raises(ValueError, match=match):
        average_entries(np.ones(shape, np.float32), np.array(weights))


@pytest.mark.parametrize(
    ("q", "h", "beta", "match"),
    [
        ((2, 3), (2, 3), 1.5, "beta 1.5"),
        ((2, 3), (2, 3), -0.1, "beta -0.1"),
        ((2, 3), (2, 3), float("nan"), "beta nan"),
        ((2, 3), (3, 3), 0.5, "must be the same"),
        ((3,), (3,), 0.5, "must be the same"),
    ],
)
def test_wrong_mixtures_are_refused(q, h, beta, match):
    with pytest.raises(ValueError, match=match):
        blend_with_sentences(np.ones(q, np.float32), np.ones(h, np.float32), beta)


def test_the_queue_is_no_parameter_of_a_pair():
    class Pair(jt.Module):
        def __init__(self):
            self.context, self.queue = jt.array(context_of(0)), pushed([1])

    pair = Pair()
    assert sorted(pair.state_dict()) == ["context", "queue.contexts", "queue.epochs"]
    assert [name for name, value in pair.state_dict().items() if not value.is_stop_grad()] == [
        "context"
    ]
