"""The Gaussian discriminant: its formula, its equals, and leaving a shot out."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.heads.gda import SMALLEST_WEIGHT, GaussianDiscriminant


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def blobs(seed=0, classes=4, shots=5, width=8, noise=0.6):
    """features[N,E], labels[N], test[M,E], test labels[M]: unit rows about class centres."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal(width) + rng.standard_normal((classes, width))

    def rows(labels):
        return unit(centres[labels] + noise * rng.standard_normal((len(labels), width)))

    labels, test_labels = np.arange(classes).repeat(shots), np.arange(classes).repeat(30)
    return rows(labels), labels, rows(test_labels), test_labels


def centred(logits):
    """What softmax sees: a constant for each row does not count."""
    return logits - logits.mean(axis=1, keepdims=True)


def by_hand(features, labels, classes, test, ridge=None):
    """The paper's formula, term by term; a class without shots is at the mean of all."""
    rows, width = features.shape
    means = np.array(
        [features[labels == k if k in labels else labels >= 0].mean(axis=0) for k in range(classes)]
    )
    residual = features - means[labels]
    sigma = np.cov(residual.T)  # residuals have mean 0 in each class, so in all
    ridge = np.trace(sigma) if ridge is None else ridge
    inverse = width * np.linalg.pinv((rows - 1) * sigma + ridge * np.eye(width))
    offsets = np.log(1 / classes) - 0.5 * np.einsum("ke,ef,kf->k", means, inverse, means)
    return test @ inverse @ means.T + offsets


# logits of about 50 in float32 are good to 4e-6, and so are weights and rows before their product
CLOSE = {"rtol": 0, "atol": 1e-4}


def test_formula():
    features, labels, test, _ = blobs()
    head = GaussianDiscriminant().fit(features.astype(np.float32), labels, 4)
    expected = by_hand(features, labels, 4, test)
    assert abs(centred(expected)).max() > 5
    np.testing.assert_allclose(centred(head.decision_function(test)), centred(expected), **CLOSE)


def test_is_linear_discriminant_analysis_with_its_shrinkage():
    features, labels, test, truth = blobs()
    rows, width = features.shape
    head = GaussianDiscriminant().fit(features, labels, 4)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=width / (width + rows - 1))
    peer.fit(features, labels)
    ratio = width * (rows - 1) / (rows * (rows - 1 + width))  # of the two inverses
    expected = ratio * centred(peer.decision_function(test))
    np.testing.assert_allclose(centred(head.decision_function(test)), expected, **CLOSE)
    assert (head.predict(test) == peer.predict(test)).all()
    assert head.score(test, truth) > 0.7


def test_row_order_and_length_change_no_byte():
    features, labels, _, _ = blobs()
    order = np.random.default_rng(1).permutation(len(labels))
    first = GaussianDiscriminant().fit(features, labels, 4)
    again = GaussianDiscriminant().fit(4 * features[order], labels[order], 4)
    for name, values in first.state().items():
        assert values.tobytes() == again.state()[name].tobytes(), name
    np.testing.assert_array_equal(first.held_out_[order], again.held_out_)


def test_class_without_a_shot_is_at_the_mean_of_all():
    features, labels, test, _ = blobs()
    features, labels = features[labels != 2], labels[labels != 2]
    head = GaussianDiscriminant().fit(features, labels, 4)
    expected = by_hand(features, labels, 4, test)
    np.testing.assert_allclose(centred(head.decision_function(test)), centred(expected), **CLOSE)
    assert not head.weights_[2].any()


def test_one_shot_a_class():
    features, labels, test, truth = blobs(shots=1)
    head = GaussianDiscriminant().fit(features, labels, 4)
    # the covariance of all shots stands in, so each class keeps the shot it was given
    assert (head.predict(features) == labels).all()
    assert head.score(test, truth) > 0.4  # chance is 0.25
    assert np.isnan(head.held_out_).all()
    assert head.fit_weight(100 * features @ features.T, labels) == SMALLEST_WEIGHT


def test_equal_rows_say_nothing():
    head = GaussianDiscriminant().fit(np.ones((4, 8)), np.arange(4) % 2, 2)
    assert not head.weights_.any() and np.isfinite(head.offsets_).all()


def test_left_out_logits_equal_a_fit_without_the_row():
    features, labels, _, _ = blobs(shots=3)
    features, labels = features[:-2], labels[:-2]  # one class has a single shot
    head = GaussianDiscriminant().fit(features, labels, 4)
    residual = features - np.array([features[labels == k].mean(axis=0) for k in labels])
    ridge = np.trace(residual.T @ residual) / (len(labels) - 1)
    for i in range(len(labels) - 1):
        is_kept = np.arange(len(labels)) != i
        expected = by_hand(features[is_kept], labels[is_kept], 4, features[i : i + 1], ridge)
        actual = centred(head.held_out_[i : i + 1])
        np.testing.assert_allclose(actual, centred(expected), **CLOSE)
    assert np.isnan(head.held_out_[-1]).all()


def test_weight_makes_the_left_out_shots_most_likely():
    features, labels, _, _ = blobs(shots=4, width=32, noise=1.5)
    head = GaussianDiscriminant().fit(features, labels, 4)
    text = np.random.default_rng(3).standard_normal((len(labels), 4))

    def loss(weight):
        logits = text + weight * head.held_out_
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]).mean()

    weight = head.fit_weight(text, labels)
    assert 0.02 < weight < 0.98
    assert loss(weight) < min(loss(0.9 * weight), loss(1.1 * weight))
    # labels that the features know nothing of: as little as is allowed
    shuffled = np.random.default_rng(0).permutation(labels)
    head = GaussianDiscriminant().fit(features, shuffled, 4)
    assert head.fit_weight(text, shuffled) == pytest.approx(SMALLEST_WEIGHT)


def test_state_and_errors():
    features, labels, test, _ = blobs()
    head = GaussianDiscriminant().fit(features, labels, 4)
    again = GaussianDiscriminant.from_state(head.state())
    np.testing.assert_array_equal(again.decision_function(test), head.decision_function(test))
    with pytest.raises(ValueError, match="not the state"):
        GaussianDiscriminant.from_state({"weights": head.weights_})
    with pytest.raises(ValueError, match="not fitted"):
        GaussianDiscriminant().predict(test)
    with pytest.raises(ValueError, match="call fit first"):
        again.fit_weight(np.eye(4)[labels], labels)
    with pytest.raises(ValueError, match="8 wide"):
        head.predict(test[:, :-1])
    for wrong in (labels + 1, labels - 1):
        with pytest.raises(ValueError, match="outside 0..3"):
            GaussianDiscriminant().fit(features, wrong, 4)
    with pytest.raises(ValueError, match="labels has shape"):
        GaussianDiscriminant().fit(features, labels[:-1], 4)
