"""The prompt stage learns, keeps CLIP as it was, and averages as its shares say."""

import dataclasses

import numpy as np
import pytest

from engine.run_log import Run
from fewshot.features.encoder import Encoder
from fewshot.stages.prompt import PromptConfig, train_prompt
from fewshot.text.class_texts import compute_class_vectors
from models.normalize import unit_rows
from tests.helpers.tiny_clip import write_tiny_clip

NAMES = ["cat", "golden retriever", "apple pie"]
LABELS = np.arange(3).repeat(4)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompt")
    return Encoder(write_tiny_clip(folder / "clip.pkl"), "cpu", folder / "cache")


@pytest.fixture(scope="module")
def sentences(encoder):
    drawings = [f"a drawing of a {name}." for name in NAMES]
    return compute_class_vectors(encoder.encode_sentences(drawings), [[1]] * 3)


@pytest.fixture(scope="module")
def features(sentences):
    """[N,P,E]: images that lie about other places than their sentences do."""
    rng = np.random.default_rng(0)
    centres = sentences[[1, 2, 0]][LABELS]
    return (centres[:, None] + 0.02 * rng.normal(size=(12, 3, 32))).astype(np.float32)


def train(encoder, features, sentences, folder, **changes):
    settings = PromptConfig(**({"epochs": 6, "lr": 0.02, "anchor": 0.0} | changes))
    run = Run(folder, dataclasses.asdict(settings), "prompt")
    return train_prompt(settings, encoder, NAMES, features, LABELS, sentences, run, seed=1)


def accuracy(features, vectors):
    return (features[:, 0] @ vectors.T).argmax(axis=1) == LABELS


@pytest.mark.parametrize(
    "changes", [{}, {"per_class": True, "position": "end"}, {"classes": 2, "batch_size": 2}]
)
def test_it_learns_and_leaves_clip_alone(encoder, features, sentences, tmp_path, changes):
    before = {n: p.numpy().tobytes() for n, p in encoder.model.named_parameters()}
    part = train(encoder, features, sentences, tmp_path, beta=0.0, **changes)
    assert accuracy(features, part.class_vectors).mean() > accuracy(features, sentences).mean()
    assert {n: p.numpy().tobytes() for n, p in encoder.model.named_parameters()} == before
    assert part.epochs == [2, 3, 4, 5, 6] and part.weights.sum() == pytest.approx(1)
    assert part.trained_count == (3 if changes.get("per_class") else 1) * 4 * 64


def test_beta_1_is_the_hand_made_text_and_beta_0_the_queue(encoder, features, sentences, tmp_path):
    hand = train(encoder, features, sentences, tmp_path / "a", beta=1.0)
    assert hand.class_vectors.tobytes() == sentences.tobytes()
    learned = train(encoder, features, sentences, tmp_path / "b", beta=0.0, queue=1)
    assert learned.epochs == [6] and learned.weights.tolist() == [1]
    between = train(encoder, features, sentences, tmp_path / "c", beta=0.25, queue=1)
    mixed = unit_rows(0.75 * learned.class_vectors + 0.25 * sentences)
    assert between.class_vectors == pytest.approx(mixed, abs=1e-6)  # float32 against float64


def test_no_epochs_leave_the_words(encoder, features, sentences, tmp_path):
    part = train(encoder, features, sentences, tmp_path, epochs=0, beta=0.0)
    words = unit_rows(encoder.encode_sentences([f"a photo of a {name}." for name in NAMES]))
    assert part.epochs == [0]
    # the number of rows of a call and the cut of the text change the order of sums
    assert part.class_vectors == pytest.approx(words, abs=1e-5)


def test_the_anchor_holds_the_text(encoder, features, sentences, tmp_path):
    away = []
    for anchor in (0.0, 50.0):
        part = train(encoder, features, sentences, tmp_path / str(anchor), anchor=anchor, beta=0.0)
        away.append(((part.class_vectors - sentences) ** 2).sum(axis=1).mean())
    assert away[1] < away[0] / 2


def test_the_queue_takes_every_second_epoch(encoder, features, sentences, tmp_path):
    part = train(encoder, features, sentences, tmp_path, push_every=2, queue=2)
    assert part.epochs == [4, 6]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 3, "push_every": 4}, "3 epochs never push"),
        ({"epochs": -1}, "epochs is -1; 0 or more"),
        ({"tokens": 0, "queue": 0}, "tokens is 0, queue is 0; 1 or more"),
        ({"position": "back"}, "position 'back' must be one of front, middle, end"),
        ({"weighting": "mean"}, "weighting 'mean' one of uniform, ema, gaussian"),
        ({"beta": 1.5}, "beta is 1.5"),
    ],
)
def test_impossible_settings_are_refused_before_training(changes, message):
    with pytest.raises(ValueError, match=message):
        PromptConfig(**changes)


def test_a_stopped_run_ends_in_the_same_bytes(encoder, features, sentences, tmp_path):
    unbroken = train(encoder, features, sentences, tmp_path / "a")
    config = PromptConfig(epochs=6, lr=0.02, anchor=0.0)

    class Stopped(Exception):
        """As a kill between two epochs."""

    class StoppingRun(Run):
        def log(self, epoch, metrics):
            if epoch == 4:
                raise Stopped
            super().log(epoch, metrics)

    run = StoppingRun(tmp_path / "b", dataclasses.asdict(config), "prompt")
    with pytest.raises(Stopped):
        train_prompt(config, encoder, NAMES, features, LABELS, sentences, run, seed=1)
    resumed = train(encoder, features, sentences, tmp_path / "b")
    assert unbroken.contexts.tobytes() == resumed.contexts.tobytes()
    assert unbroken.class_vectors.tobytes() == resumed.class_vectors.tobytes()
    assert unbroken.epochs == resumed.epochs
