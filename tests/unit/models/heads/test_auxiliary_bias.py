"""The auxiliary bias: its weight and ridge follow from leave-one-out outputs."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from models.heads.auxiliary_bias import RIDGES, AuxiliaryBias, fit_weight
from models.normalize import unit_rows

CLASSES, WIDTH = 7, 64


def problem(seed=0, shots=4, noise=2.0, signal=2.0):
    """(features, labels, logits) of shots and of 700 test rows; `signal` is in the logits."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLASSES, WIDTH))

    def rows(count):
        labels = np.arange(CLASSES).repeat(count)
        features = centres[labels] + noise * random.normal(size=(len(labels), WIDTH))
        logits = 2 * signal * np.eye(CLASSES)[labels] + 2 * random.normal(
            size=(len(labels), CLASSES)
        )
        return features.astype(np.float32), labels, logits.astype(np.float32)

    return rows(shots), rows(100)


def left_out_by_refits(rows, targets, penalty):
    """outputs[N,K]: for each row a ridge regression with an offset, fitted without it."""
    outputs = np.empty_like(targets)
    for i in range(len(rows)):
        is_kept = np.arange(len(rows)) != i
        design = np.hstack([rows, np.ones((len(rows), 1))])
        shrink = penalty * np.diag([1.0] * rows.shape[1] + [0.0])  # the offset is free
        solution = np.linalg.solve(
            design[is_kept].T @ design[is_kept] + shrink, design[is_kept].T @ targets[is_kept]
        )
        outputs[i] = design[i] @ solution
    return outputs


def test_weight_and_ridge_are_those_of_explicit_refits():
    (features, labels, logits), _ = problem(shots=3)
    rows, targets = unit_rows(features.astype(np.float64)), np.eye(CLASSES)[labels]
    size = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
    candidates = []
    for ridge in RIDGES:
        outputs = left_out_by_refits(rows, targets, ridge * size)
        weight, loss = fit_weight(outputs, logits.astype(np.float64), labels)
        candidates.append((loss, ridge, weight))
    _, ridge, weight = min(candidates)
    bias = AuxiliaryBias().fit(features, labels, logits)
    assert bias.ridge_ == ridge and weight > 1
    assert bias.weight_ == pytest.approx(weight, rel=1e-6)  # the same minimum, to Newton's halt
    design = np.hstack([rows, np.ones((len(rows), 1))])
    shrink = ridge * size * np.diag([1.0] * WIDTH + [0.0])
    whole = design @ np.linalg.solve(design.T @ design + shrink, design.T @ targets)
    # stored in float32
    assert bias.decision_function(features) == pytest.approx(weight * whole, abs=1e-5)


def test_it_helps_where_zero_shot_is_weak():
    shots, (features, labels, logits) = problem()
    bias = AuxiliaryBias().fit(*shots)
    helped = logits + bias.decision_function(features)
    before, after = ((x.argmax(axis=1) == labels).mean() for x in (logits, helped))
    assert bias.weight_ > 1 and after > before + 0.1


def test_features_that_say_nothing_weigh_little():
    weights, lost = [], []
    for seed in range(10):
        shots, (features, labels, logits) = problem(seed, noise=1e3)
        bias = AuxiliaryBias().fit(*shots)
        weights.append(bias.weight_)
        moved = (logits + bias.decision_function(features)).argmax(axis=1)
        lost.append((logits.argmax(axis=1) == labels).mean() - (moved == labels).mean())
    assert weights.count(0.0) >= 4  # 28 rows cannot rule out that chance says something
    assert np.mean(lost) < 0.01
    (features, labels, logits), _ = problem()
    assert AuxiliaryBias().fit(np.ones_like(features), labels, logits).weight_ == 0


def test_one_shot_a_class_tells_nothing_of_the_others():
    shots, (features, _, _) = problem(shots=1, noise=0.1)
    bias = AuxiliaryBias().fit(*shots)
    assert bias.weight_ == 0 and not bias.decision_function(features).any()


def test_the_order_of_rows_changes_no_byte():
    (features, labels, logits), _ = problem()
    bias = AuxiliaryBias().fit(features, labels, logits)
    order = np.random.default_rng(3).permutation(len(labels))
    other = AuxiliaryBias().fit(features[order], labels[order], logits[order])
    assert other.weight_ == bias.weight_
    for name, array in bias.state().items():
        assert array.tobytes() == other.state()[name].tobytes()
    longer = AuxiliaryBias().fit(8 * features, labels, logits)  # a power of 2 loses no bit
    assert longer.state()["weights"].tobytes() == bias.state()["weights"].tobytes()


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0])
def test_weight_is_the_minimum(signal):
    random = np.random.default_rng(5)
    labels = np.arange(4).repeat(10)
    logits = signal * np.eye(4)[labels] + random.normal(size=(40, 4))
    outputs = 0.4 * np.eye(4)[labels] + random.normal(size=(40, 4)) / 2
    smooth = (40 * np.eye(4)[labels] + 0.25) / 41

    def loss(at):
        return -(smooth * log_softmax(at[0] * logits + at[1] * outputs, axis=1)).sum(axis=1).mean()

    bounds = [(0, None)] * 2
    least = minimize(loss, [1.0, 1.0], method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14})
    weight, smallest = fit_weight(outputs, logits, labels)
    assert smallest == pytest.approx(least.fun, abs=1e-9)  # Newton halts at steps of 1e-10
    assert weight == pytest.approx(least.x[1], abs=1e-3)  # flat at the minimum
    against, _ = fit_weight(-outputs, logits, labels)
    assert weight > 0.1 and against == 0


def test_rows_that_are_all_told_apart_leave_the_weight_finite():
    labels = np.arange(4).repeat(5)
    outputs = np.eye(4)[labels]
    # both see the label: with smoothed ones the best margin is log(1 + K N) of 1 row in N + 1
    weight, _ = fit_weight(outputs, np.zeros((20, 4)), labels)
    assert weight == pytest.approx(np.log(1 + 4 * 20), rel=1e-4)


def test_a_stored_bias_is_the_same():
    shots, (features, _, _) = problem()
    bias = AuxiliaryBias().fit(*shots)
    again = AuxiliaryBias.from_state(bias.state())
    assert again.decision_function(features).tobytes() == bias.decision_function(features).tobytes()
    for state in (
        {"weights": bias.weights_},
        bias.state() | {"more": bias.offsets_},
        bias.state() | {"offsets": bias.offsets_[1:]},
    ):
        with pytest.raises(ValueError, match="not the state of AuxiliaryBias"):
            AuxiliaryBias.from_state(state)


def test_rows_that_do_not_fit_are_refused():
    (features, labels, logits), _ = problem()
    for arguments, message in (
        ((features[0], labels, logits), "do not fit"),
        ((features, labels[1:], logits), "do not fit"),
        ((features, labels, logits[1:]), "do not fit 28 labels"),
        ((features, labels - 1, logits), "outside 0..6"),
        ((features, labels, logits[:, 1:]), "outside 0..5"),
        ((features * np.inf, labels, logits), "must be finite"),
        ((features, labels, logits * np.nan), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            AuxiliaryBias().fit(*arguments)
