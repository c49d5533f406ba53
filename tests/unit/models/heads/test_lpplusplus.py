"""The LP++ head: its interface, its gradients, metric and loss, and real features."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from kernels import cpu_operator
from models.heads.lpplusplus import LPPlusPlus, whiten, within_class_metric
from models.heads.softmax_regression import SoftmaxRegression, descend, variable
from models.heads.zero_shot import fit_text_scale
from runtime.paths import ROOT

REAL = ROOT.parent / "shared/data/cars_vitb32_features.npz"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cone(seed=0, classes=5, shots=4, width=16, text_noise=0.7):
    """Features in a narrow cone, as CLIP's: a large common mean, and text in a cone of its own.

    Returns features, labels, text, test features, test labels.
    """
    rng = np.random.default_rng(seed)
    images, texts = 3 * rng.standard_normal((2, width))
    centres = rng.standard_normal((classes, width))
    text = texts + centres + text_noise * rng.standard_normal((classes, width))

    def rows(labels):
        return images + centres[labels] + 0.8 * rng.standard_normal((len(labels), width))

    labels, test_labels = np.arange(classes).repeat(shots), np.arange(classes).repeat(40)
    return rows(labels), labels, text, rows(test_labels), test_labels


def loss_of(problem_rows, cosines, labels, weights, alphas, offsets=0.0, rho=0.0):
    """The loss of `descend` in plain float64 NumPy."""
    logits = problem_rows @ weights + alphas * cosines + offsets
    logits = logits - logits.max(axis=1, keepdims=True)
    entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    squares = (weights**2).sum() + (np.asarray(offsets) ** 2).sum() / 4
    return (entropy.sum() + rho / 2 * squares) / len(labels)


def test_no_iterations_is_zero_shot():
    features, labels, text, test, _ = cone()
    head = LPPlusPlus(n_iter=0).fit(features, labels, text)
    expected = 100 * unit(test) @ unit(text).T
    # logits up to 100 in float32: spacing 7.6e-6, and text is stored in float32
    np.testing.assert_allclose(head.decision_function(test), expected, rtol=0, atol=3e-5)
    assert (head.predict(test) == expected.argmax(axis=1)).all()


def test_shots_help():
    features, labels, text, test, truth = cone(classes=5, shots=8, text_noise=1.5)
    zero_shot = LPPlusPlus(n_iter=0).fit(features, labels, text).score(test, truth)
    assert LPPlusPlus(n_iter=60).fit(features, labels, text).score(test, truth) > zero_shot + 0.05


def test_row_order_and_repetition_change_no_byte():
    features, labels, text, test, _ = cone()
    order = np.random.default_rng(1).permutation(len(labels))
    first = LPPlusPlus(n_iter=20).fit(features, labels, text)
    again = LPPlusPlus(n_iter=20).fit(features[order], labels[order], text)
    for name, value in first.state().items():
        assert value.tobytes() == again.state()[name].tobytes(), name
    alone = np.concatenate([first.decision_function(row[None]) for row in test])
    # float64 sums rounded to float32: at most the last bit may differ between batch sizes
    np.testing.assert_array_max_ulp(first.decision_function(test), alone, 1)


def test_length_of_rows_does_not_matter():
    features, labels, text, test, _ = cone()
    first = LPPlusPlus(n_iter=10).fit(features, labels, text).decision_function(test)
    scaled = LPPlusPlus(n_iter=10).fit(features * 4, labels, text * 0.5).decision_function(test / 8)
    # powers of two change no digit of a normalised row
    np.testing.assert_array_equal(first, scaled)


def test_state_survives_a_pickle():
    features, labels, text, test, _ = cone()
    head = LPPlusPlus(n_iter=10).fit(features, labels, text)
    state = pickle.loads(pickle.dumps(head.state()))
    assert all(type(value) is np.ndarray for value in state.values())
    np.testing.assert_array_equal(
        LPPlusPlus.from_state(state).decision_function(test), head.decision_function(test)
    )
    with pytest.raises(ValueError, match="not the state"):
        LPPlusPlus.from_state({"weights": state["weights"]})


def test_follows_scikit_learn():
    head = LPPlusPlus(n_iter=7, momentum=0.5)
    assert head.get_params() == {"n_iter": 7, "momentum": 0.5}
    assert clone(head).get_params() == head.get_params()
    with pytest.raises(ValueError, match="not fitted"):
        head.predict(np.ones((1, 4)))


def test_class_without_a_shot_keeps_its_text():
    features, labels, text, test, _ = cone()
    is_kept = labels != 2
    head = LPPlusPlus(n_iter=20).fit(features[is_kept], labels[is_kept], text)
    assert not head.weights_[2].any() and head.offsets_[2] == 0
    assert (head.alphas_ == head.alphas_[0]).all() and head.alphas_[0] > 0
    # the others are learned as if the class did not exist
    others = LPPlusPlus(n_iter=20).fit(
        features[is_kept], labels[is_kept] - (labels[is_kept] > 2), np.delete(text, 2, axis=0)
    )
    np.testing.assert_array_equal(
        np.delete(head.decision_function(test), 2, axis=1), others.decision_function(test)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y, t: (f, y + 1, t), "label 5 is outside 0..4"),
        (lambda f, y, t: (f, y - 1, t), "label -1 is outside"),
        (lambda f, y, t: (f, y[:-1], t), "labels has shape"),
        (lambda f, y, t: (f, y.astype(float), t), "whole numbers"),
        (lambda f, y, t: (f[:, :-1], y, t), "features is 15 wide"),
        (lambda f, y, t: (f[0], y, t), "features has shape"),
        (lambda f, y, t: (f[:0], y[:0], t), "features has shape"),
        (lambda f, y, t: (f * np.where(y == 1, np.nan, 1)[:, None], y, t), "row 4 is not finite"),
        (lambda f, y, t: (f * (y != 1)[:, None], y, t), "row 4 is all zeros"),
        (lambda f, y, t: (f, y * 0, t[:1]), "at least 2 classes"),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    features, labels, text, _, _ = cone()
    with pytest.raises(ValueError, match=message):
        LPPlusPlus().fit(*change(features, labels, text))


@pytest.mark.parametrize("settings", [{"n_iter": -1}, {"momentum": 1.0}])
def test_bad_setting_is_one_clear_error(settings):
    features, labels, text, _, _ = cone()
    with pytest.raises(ValueError, match=next(iter(settings))):
        LPPlusPlus(**settings).fit(features, labels, text)


@pytest.fixture(params=["fp32", "plain"])
def operators(request, monkeypatch):
    """The operator of the CPU, and Jittor's operators as on CUDA."""
    monkeypatch.setattr(cpu_operator, "precision", request.param)


def test_two_classes_by_hand(operators):
    # One row (1, 0) of class 0 with cosines 1 and 0, w = 0 and alpha = ln 3: P = (3/4, 1/4), so
    # P - Y = (-1/4, 1/4), dW = row times that and db = that.
    row, label = np.array([[1.0, 0]]), np.array([0])
    regression = SoftmaxRegression(row, row, label, np.array([True]), float(np.log(3)))
    to_weights, to_offsets, difference, losses = regression.gradient()
    # float32 exp and log: a few units of 6e-8
    np.testing.assert_allclose(difference.numpy(), [[-0.25, 0.25]], atol=3e-7)
    np.testing.assert_allclose(to_weights.numpy(), [[-0.25, 0.25], [0, 0]], atol=3e-7)
    np.testing.assert_allclose(to_offsets.numpy(), [[-0.25, 0.25]], atol=3e-7)
    np.testing.assert_allclose(losses.numpy(), [[-np.log(0.75)]], atol=3e-7)


def test_gradients_match_finite_differences(operators):
    features, labels, text, _, _ = cone()
    features, text = unit(features), unit(text)
    cosines, rng = features @ text.T, np.random.default_rng(3)
    weights, offsets = 0.3 * rng.standard_normal((16, 5)), rng.standard_normal(5)
    is_training = np.ones(len(labels), bool)
    regression = SoftmaxRegression(features, cosines, labels, is_training, 10.0, weights)
    regression.offsets = variable(offsets)
    to_weights, to_offsets, _, _ = regression.gradient()
    step = 1e-5  # central differences in float64: error about step^2, far below float32's

    def slope(change_weights, change_offsets):
        ends = [
            loss_of(features, cosines, labels, weights + s * change_weights, 10.0,
                    offsets + s * change_offsets) for s in (step, -step)
        ]  # fmt: skip
        return (ends[0] - ends[1]) / (2 * step) * len(labels)

    for index in np.ndindex(16, 5):
        unit_change = np.zeros((16, 5))
        unit_change[index] = 1
        # sums of 20 float32 terms of size up to 1
        assert abs(slope(unit_change, 0) - to_weights.numpy()[index]) < 1e-5
    for k in range(5):
        assert abs(slope(0, np.eye(5)[k]) - to_offsets.numpy()[0, k]) < 1e-5


def test_updates_equal_plain_numpy():
    features, labels, text, _, _ = cone()
    features, text = unit(features), unit(text)
    cosines = features @ text.T
    alpha, is_training = 0.75 * fit_text_scale(cosines, labels), np.ones(20, bool)
    rows, mean, transform = whiten(features, labels, is_training)
    np.testing.assert_allclose(rows, unit((features - mean) @ transform), atol=1e-12)  # float64
    regression = SoftmaxRegression(rows, cosines, labels, is_training, alpha)
    history = descend(regression, 0.05, 30, 0.9)

    targets = np.eye(5)[labels]
    weights, offsets, speed = np.zeros((16, 5)), np.zeros(5), 0
    step = 1 / (np.linalg.eigvalsh(rows.T @ rows)[-1] + 0.1)
    for expected in history[:-1]:
        loss = loss_of(rows, cosines, labels, weights, alpha, offsets, 0.05)
        assert abs(loss - expected) < 1e-4 * history[0]  # float32 against float64 over 30 steps
        powers = np.exp(rows @ weights + alpha * cosines + offsets)
        shares = powers / powers.sum(axis=1, keepdims=True)
        curvature = np.maximum(shares.sum(axis=0), 4 - 0.0125 * offsets) + 0.0125  # 4 shots a class
        speed = 0.9 * speed + rows.T @ (shares - targets) + 0.05 * weights
        to_offsets = shares.sum(axis=0) - 4 + 0.0125 * offsets
        weights, offsets = weights - step * speed, offsets - to_offsets / (2 * curvature)
    np.testing.assert_allclose(regression.weights.numpy(), weights, atol=1e-4 * abs(weights).max())
    np.testing.assert_allclose(
        regression.offsets.numpy()[0], offsets, atol=1e-4 * abs(offsets).max()
    )


@pytest.mark.parametrize("seed", range(4))
def test_loss_never_rises_without_momentum(seed):
    features, labels, text, _, _ = cone(seed, text_noise=[0.2, 1, 3, 10][seed])
    assert_never_rises(features, labels, text)


def assert_never_rises(features, labels, text):
    head = LPPlusPlus(n_iter=60, momentum=0).fit(features, labels, text)
    history = np.array(head.loss_history_)
    # a float32 gradient is exact to about 1e-6 of the loss
    assert (np.diff(history) <= 1e-6 * history[0]).all()
    assert history[-1] < history[0]


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_offsets_far_away_come_back_without_a_rise(momentum):
    # Shots of very unequal number, text that says nothing, offsets started far from their place:
    # the step of an offset is as long as its bound allows.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [40, 10, 2, 1])
    rows, cosines = unit(rng.standard_normal((53, 8))), np.zeros((53, 4))
    for far in ([8.0, -8, 4, -4], [-30.0, 30, -30, 30]):
        regression = SoftmaxRegression(rows, cosines, labels, np.ones(53, bool), 0.0)
        regression.offsets = variable(np.array(far))
        history = np.array(descend(regression, 0.5, 80, momentum))
        if momentum == 0:
            assert (np.diff(history) <= 1e-6 * history[0]).all()
        assert history[-1] < 1.0 < history[0]


@pytest.mark.slow
@pytest.mark.golden
def test_loss_never_rises_on_real_features():
    if not REAL.is_file():
        pytest.skip("needs ../shared/data/cars_vitb32_features.npz: real CLIP features")
    with np.load(REAL) as file:
        for shots in (1, 2):
            train = file[f"train_features_{shots}shot"], file[f"train_labels_{shots}shot"]
            assert_never_rises(*train, file["text"])


def test_centring_changes_no_optimum():
    # Rows f and f - mu span the same model once a constant may be added (method A.2): with a bias,
    # the penalised optimum of w is the same, here found by long plain descent in NumPy.
    features, labels, text, test, _ = cone(classes=3)
    features, text, test = unit(features), unit(text), unit(test)
    cosines, targets, mean = 20 * features @ text.T, np.eye(3)[labels], features.mean(axis=0)
    predictions = []
    for shift in (0, mean):
        rows = np.concatenate([features - shift, np.ones((len(labels), 1))], axis=1)
        weights, penalty = np.zeros((17, 3)), np.append(np.full(16, 0.05), 0)[:, None]
        step = 1 / (0.5 * np.linalg.eigvalsh(rows.T @ rows)[-1] + 0.05)
        for _ in range(20000):
            powers = np.exp(rows @ weights + cosines)
            slope = rows.T @ (powers / powers.sum(axis=1, keepdims=True) - targets)
            weights -= step * (slope + penalty * weights)
        predictions.append((test - shift) @ weights[:16] + weights[16] + 20 * test @ text.T)
    centred = [values - values.mean(axis=1, keepdims=True) for values in predictions]
    np.testing.assert_allclose(*centred, atol=1e-3)  # what plain descent leaves of the way
    assert (predictions[0].argmax(axis=1) == predictions[1].argmax(axis=1)).all()


def test_every_shot_has_length_one_and_a_held_out_row_keeps_its_own():
    features, labels, _, _, _ = cone()
    features, is_training = unit(features), np.arange(20) % 4 != 0
    rows, mean, transform = whiten(features, labels, is_training)
    np.testing.assert_allclose(np.linalg.norm(rows[is_training], axis=1), 1, atol=1e-12)  # float64
    np.testing.assert_array_equal(rows[~is_training], ((features - mean) @ transform)[~is_training])


def test_metric_scales_rows_to_one_and_knows_the_within_class_shape():
    rng = np.random.default_rng(0)
    labels = np.arange(4).repeat(50)
    rows = np.eye(4, 8)[labels] * 5 + rng.standard_normal((200, 8)) * np.array([1] * 7 + [9])
    mean, transform = within_class_metric(rows, labels)
    mapped = (rows - mean) @ transform
    assert np.isclose((mapped**2).sum(axis=1).mean(), 1)
    # the direction that only varies within classes is shrunk against one that tells them apart
    assert np.linalg.norm(transform[7]) < 0.5 * np.linalg.norm(transform[0])


def test_text_scale():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 5
    assert fit_text_scale(np.eye(5)[labels], labels) == 100.0  # perfect text keeps CLIP's scale
    assert fit_text_scale(-np.eye(5)[labels], labels) == 0.0  # misleading text loses it
    cosines = 0.1 * np.eye(5)[labels] + 0.1 * rng.standard_normal((50, 5))
    scale = fit_text_scale(cosines, labels)

    def loss(s):
        return (np.log(np.exp(s * cosines).sum(1)) - s * cosines[range(50), labels]).mean()

    losses = [loss(scale - 0.5), loss(scale), loss(scale + 0.5)]
    assert 0 < scale < 100 and losses[1] == min(losses)


@pytest.mark.slow
@pytest.mark.golden
def test_real_features():
    if not REAL.is_file():
        pytest.skip("needs ../shared/data/cars_vitb32_features.npz: real CLIP features")
    with np.load(REAL) as file:
        for shots, floor in ((1, 0.620), (2, 0.637), (8, 0.720)):
            train = file[f"train_features_{shots}shot"], file[f"train_labels_{shots}shot"]
            head = LPPlusPlus().fit(*train, file["text"])
            assert head.score(file["test_features"], file["test_labels"]) >= floor
