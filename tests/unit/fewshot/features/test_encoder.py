"""A feature belongs to an image's content: names, order, batches and workers change no bit."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from data.views import Crops, Views
from fewshot.features.encoder import CENTRE_VIEW, Encoder, encode_views
from kernels import cpu_operator
from tests.helpers.centre_features import encode_centres
from tests.helpers.tiny_clip import TINY, write_tiny_clip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_tiny_clip(folder / "clip.pkl")
    random = np.random.default_rng(0)
    (folder / "a").mkdir()
    for number in range(70):  # two full calls of the encoder and a part of one
        pixels = random.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"a/image_{number}.png")
    return folder


def encoder(place, cache, **settings):
    return Encoder(place / "clip.pkl", "cpu", cache, **settings)


@pytest.fixture(scope="module")
def truth(place, tmp_path_factory):
    """{file name: feature}, in the order of the numbers, one thread."""
    paths = [place / f"a/image_{number}.png" for number in range(70)]
    features, broken = encode_centres(encoder(place, tmp_path_factory.mktemp("cache")), paths)
    assert not broken and len(np.unique(features, axis=0)) == 70
    return {path.name: row.tobytes() for path, row in zip(paths, features, strict=True)}


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_order_workers_and_batches_change_no_bit(place, truth, tmp_path, workers, batch):
    order = np.random.default_rng(workers * 100 + batch).permutation(70)
    paths = [place / f"a/image_{number}.png" for number in order]
    features, _ = encode_centres(encoder(place, tmp_path, workers=workers, batch_size=batch), paths)
    assert {p.name: f.tobytes() for p, f in zip(paths, features, strict=True)} == truth


def test_names_and_company_change_no_bit(place, truth, tmp_path):
    for number in range(40):  # other names, a copy of one image, and not all of them
        shutil.copy(place / f"a/image_{number}.png", tmp_path / f"x{(number * 7) % 40}.png")
    shutil.copy(place / "a/image_3.png", tmp_path / "copy.png")
    paths = sorted(tmp_path.glob("*.png"))
    features, _ = encode_centres(encoder(place, tmp_path / "cache"), paths)
    found = {path.name: row.tobytes() for path, row in zip(paths, features, strict=True)}
    for number in range(40):
        assert found[f"x{(number * 7) % 40}.png"] == truth[f"image_{number}.png"]
    assert found["copy.png"] == truth["image_3.png"]


def test_the_cache_is_used_and_is_the_weights_own(place, truth, tmp_path):
    paths = [place / f"a/image_{number}.png" for number in range(3)]
    first, _ = encode_centres(encoder(place, tmp_path), paths)
    (stored,) = tmp_path.iterdir()
    before = stored.stat().st_mtime_ns
    again, _ = encode_centres(encoder(place, tmp_path), paths[::-1])
    assert again[::-1].tobytes() == first.tobytes()
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [before]
    write_tiny_clip(tmp_path / "other.pkl", seed=1)
    other, _ = encode_centres(Encoder(tmp_path / "other.pkl", "cpu", tmp_path / "c"), paths)
    assert (other != first).all()


def test_broken_images_are_named_and_remembered(place, tmp_path):
    good = place / "a/image_0.png"
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (40_000, 1)).save(tmp_path / "sliver.png")
    paths = [tmp_path / "text.jpg", good, tmp_path / "gone.png", tmp_path / "sliver.png"]
    for _ in range(2):  # encoded, then from the cache
        features, broken = encode_centres(encoder(place, tmp_path / "cache"), paths)
        assert sorted(broken) == [0, 2] and features[1].any() and features[3].any()
        assert not features[[0, 2]].any()
        assert "text.jpg" in str(broken[0]) and "No such file" in broken[2].cause


def test_each_image_is_decoded_once_for_several_encoders(place, truth, tmp_path):
    write_tiny_clip(tmp_path / "other.pkl", seed=1)
    encoders = [encoder(place, tmp_path), Encoder(tmp_path / "other.pkl", "cpu", tmp_path)]
    paths = [place / f"a/image_{number}.png" for number in (0, 1, 0)]
    ticks = []
    for _ in range(2):  # two distinct images; then all from the cache
        found, _ = encode_views(encoders, paths, CENTRE_VIEW, lambda: ticks.append(1))
        assert len(ticks) == 2
    assert found[0][1, 0].tobytes() == truth["image_1.png"]
    assert found[1].tobytes() == encode_centres(encoders[1], paths)[0].tobytes()


def test_views_lie_behind_each_other(place, tmp_path):
    paths = [place / f"a/image_{number}.png" for number in (3, 1)]
    views = Views(4, Crops((0.5, 1.0)), 0)
    features = encoder(place, tmp_path).encode_training_views(paths, views)
    assert features.shape == (2, 4, TINY.embed_dim)
    assert (features[:, 0] == encode_centres(encoder(place, tmp_path), paths)[0]).all()
    assert len(np.unique(features.reshape(8, -1), axis=0)) == 8


def test_a_damaged_cache_is_named(place, tmp_path):
    paths = [place / "a/image_0.png"]
    encode_centres(encoder(place, tmp_path), paths)
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{stored.name}: is damaged .*; delete it and run again"):
        encode_centres(encoder(place, tmp_path), paths)


def test_nothing_to_encode(place, tmp_path):
    features, broken = encode_centres(encoder(place, tmp_path), [])
    assert features.shape == (0, TINY.embed_dim) and not broken


def test_sentences_come_in_their_order(place, tmp_path):
    texts = ["a photo of a cat.", "a dog", "a photo of a cat.", "the sea"]
    features = encoder(place, tmp_path).encode_sentences(texts)
    assert features.shape == (4, TINY.embed_dim)
    assert features[0].tobytes() == features[2].tobytes() != features[1].tobytes()
    again = encoder(place, tmp_path).encode_sentences(texts[::-1])
    assert again[::-1].tobytes() == features.tobytes()


def test_sentences_are_never_bf16(place, tmp_path, monkeypatch):
    texts = ["a photo of a cat", "a photo of a dog"]
    exact = encoder(place, tmp_path / "fp32").encode_sentences(texts)
    monkeypatch.setattr(cpu_operator, "precision", "bf16")
    rounded = encoder(place, tmp_path / "bf16").encode_sentences(texts)
    assert rounded.tobytes() == exact.tobytes() and cpu_operator.precision == "bf16"


def test_what_one_encoder_cannot_take_is_unreadable_for_all(place, tmp_path):
    class Picky(Encoder):
        """One whose preprocessing refuses images of 20 x 30 pixels."""

        @property
        def tower(self):
            def centre(image):
                raise ValueError("too small for this one")

            return dataclasses.replace(super().tower, centre=centre, to_array=lambda image: image)

    encoders = [encoder(place, tmp_path), Picky(place / "clip.pkl", "cpu", tmp_path / "other")]
    paths = [place / "a/image_0.png"]
    encode_centres(encoders[0], paths)  # cached already
    (plain, other), broken = encode_views(encoders, paths, CENTRE_VIEW, lambda: None)
    assert broken[0].cause == "too small for this one" and not plain.any() and not other.any()
