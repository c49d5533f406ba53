import jittor as jt
import numpy as np
import pytest

from engine.losses import class_cross_entropy, contrastive_loss, soft_cross_entropy

LOGITS = np.random.default_rng(0).normal(0, 3, (6, 6)).astype(np.float32)
FLOAT32 = 1e-5  # a dozen float32 roundings of numbers around 1


def log_softmax(x, axis):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def test_soft_cross_entropy_equals_its_formula():
    targets = np.random.default_rng(1).dirichlet(np.ones(6), 6).astype(np.float32)
    ours = soft_cross_entropy(jt.array(LOGITS), jt.array(targets)).item()
    assert abs(ours + (targets * log_softmax(LOGITS, 1)).sum(1).mean()) < FLOAT32


def test_soft_cross_entropy_stands_large_logits():
    loss = soft_cross_entropy(jt.array([[1000.0, 0.0]]), jt.array([[1.0, 0.0]])).item()
    assert loss == 0.0


def test_class_cross_entropy_equals_its_formula():
    labels = np.array([0, 5, 2, 2, 1, 4])
    ours = class_cross_entropy(jt.array(LOGITS), labels).item()
    assert abs(ours + log_softmax(LOGITS, 1)[np.arange(6), labels].mean()) < FLOAT32
    with pytest.raises(IndexError):
        class_cross_entropy(jt.array(LOGITS), labels + 1)


def test_contrastive_without_repeats_is_clips_loss():
    ours = contrastive_loss(jt.array(LOGITS), jt.array(np.eye(6, dtype=np.float32))).item()
    rows, columns = log_softmax(LOGITS, 1), log_softmax(LOGITS, 0)
    assert abs(ours + (np.trace(rows) + np.trace(columns)) / 12) < FLOAT32


def test_equal_captions_share_the_target():
    ids = np.array([0, 1, 0, 2, 2, 2])
    same = (ids[:, None] == ids).astype(np.float32)
    uniform = contrastive_loss(jt.zeros((6, 6)), jt.array(same)).item()
    assert abs(uniform - np.log(6)) < FLOAT32
    perfect = contrastive_loss(jt.array(same * 50), jt.array(same)).item()
    entropy = np.log([2, 1, 2, 3, 3, 3]).mean()  # of the spread targets themselves
    assert abs(perfect - entropy) < FLOAT32
