"""The LoRA stage learns from crops, starts as zero-shot, and its merged encoder is as trained."""

import dataclasses

import jittor as jt
import numpy as np
import pytest
from PIL import Image

from engine.run_log import Run
from fewshot.features.encoder import Encoder
from fewshot.features.towers import clip_tower
from fewshot.stages.lora import LoraStageConfig, train_lora
from fewshot.stages.prompt import PromptConfig, encode_class_vectors, train_prompt
from fewshot.text.class_texts import compute_class_vectors
from models.lora import LoraAdapters
from tests.helpers.centre_features import encode_centres
from tests.helpers.simple_parts import text_part
from tests.helpers.tiny_clip import write_tiny_clip

NAMES = ["red", "green", "blue"]
SENTENCES = [f"a photo of a {name}." for name in NAMES]
LABELS = np.arange(3).repeat(4)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An encoder, and images that are mostly of one colour."""
    folder = tmp_path_factory.mktemp("lora")
    rng = np.random.default_rng(0)
    for number, label in enumerate(LABELS):
        pixels = rng.integers(0, 120, (24, 24, 3))
        pixels[..., label] += 130
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    encoder = Encoder(write_tiny_clip(folder / "clip.pkl"), "cpu", folder / "cache")
    return encoder, [folder / f"{number}.png" for number in range(12)]


def train(place, folder, workers=0, **changes):
    encoder, paths = place
    settings = {"epochs": 8, "lr": 0.01, "batch_size": 4, "scale": (0.5, 1.0)} | changes
    config = LoraStageConfig(**settings)
    run = Run(folder, dataclasses.asdict(config), "lora")
    encoder = dataclasses.replace(encoder, workers=workers)
    return train_lora(config, encoder, paths, LABELS, SENTENCES, True, run, seed=1)


def tuned_by(encoder, part):
    return encoder.with_lora(part.config, part.state)


def logits(encoder, paths):
    images, text = encode_centres(encoder, paths)[0], encoder.encode_sentences(SENTENCES)
    images, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, text))
    return images @ text.T


def test_no_epochs_are_zero_shot_to_the_last_bit(place, tmp_path):
    part = train(place, tmp_path, epochs=0)
    encoder, paths = place
    tuned = tuned_by(encoder, part)
    assert encode_centres(tuned, paths)[0].tobytes() == encode_centres(encoder, paths)[0].tobytes()
    assert (
        tuned.encode_sentences(SENTENCES).tobytes() == encoder.encode_sentences(SENTENCES).tobytes()
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"towers": ("image",)}, {"classes": 2, "batch_size": 2}, {"targets": ("o", "fc", "proj")}],
)
def test_it_learns(place, tmp_path, changes):
    part = train(place, tmp_path, **changes)
    encoder, paths = place
    before, after = (logits(e, paths) for e in (encoder, tuned_by(encoder, part)))
    assert (before.argmax(axis=1) == LABELS).mean() < 0.9
    assert (after.argmax(axis=1) == LABELS).mean() > (before.argmax(axis=1) == LABELS).mean()
    assert part.trained_count == sum(array.size for array in part.state["arrays"].values())


def test_workers_and_a_second_run_give_the_same_bytes(place, tmp_path):
    parts = [train(place, tmp_path / str(w), w).state["arrays"] for w in (0, 2)]
    assert {n: a.tobytes() for n, a in parts[0].items()} == {
        n: a.tobytes() for n, a in parts[1].items()
    }


def test_the_merged_encoder_is_the_trained_model(place, tmp_path):
    part = train(place, tmp_path)
    encoder, paths = place
    tower = clip_tower(encoder.weights)
    adapters = LoraAdapters(tower.module, part.config, seed=0)
    adapters.load(part.state)
    adapters.eval()
    images = np.stack([tower.centre(Image.open(path)) for path in paths])
    with jt.no_grad():
        unmerged = tower.module.encode_image(jt.array(images)).numpy()
    # the change is added to the weight instead of to the product: other roundings of float32
    assert encode_centres(tuned_by(encoder, part), paths)[0] == pytest.approx(unmerged, abs=1e-4)


def test_class_vectors_are_made_again_through_the_merged_tower(place, tmp_path):
    encoder, paths = place
    text = compute_class_vectors(encoder.encode_sentences(SENTENCES), [[1]] * 3)
    features = encode_centres(encoder, paths)[0][:, None]
    prompt = PromptConfig(epochs=2)
    run = Run(tmp_path / "p", dataclasses.asdict(prompt), "prompt")
    prompt_part = train_prompt(prompt, encoder, NAMES, features, LABELS, text, run, seed=1)
    named = text_part(text, range(3), names=NAMES, sentences=[[s] for s in SENTENCES])
    untrained, trained = (
        encode_class_vectors(
            tuned_by(encoder, train(place, tmp_path / str(epochs), epochs=epochs)),
            prompt_part,
            named,
            1,
        )
        for epochs in (0, 8)
    )
    assert untrained.tobytes() == prompt_part.class_vectors.tobytes()
    assert np.abs(trained - untrained).max() > 1e-3
