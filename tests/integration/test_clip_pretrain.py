"""Pre-training on image-caption pairs learns, repeats itself, and writes a CLIP's file."""

import json

import numpy as np
import pytest
from PIL import Image

import jclip
from recipes import clip_pretrain

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230), "grey": (120,) * 3}


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """48 plain squares of four colours with noise, and a list that names the colour."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    lines = []
    for number in range(48):
        name, colour = list(COLOURS.items())[number % 4]
        pixels = np.clip(random.normal(colour, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "caption": f"a {name} square"}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "captions.jsonl"


def pretrain(captions, folder):
    small = {"width": 64, "layers": 1, "patch_size": 8, "epochs": 8, "batch_size": 16}
    config = clip_pretrain.Config(
        captions=captions, out=folder / "clip.pkl", run=folder / "run", device="cpu", **small
    )
    clip_pretrain.run(config)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_it_learns_repeats_itself_and_loads_as_a_clip(captions, tmp_path):
    losses = pretrain(captions, tmp_path / "a")
    assert len(losses) == 8 and losses[-1] < 0.7 * losses[0]
    assert pretrain(captions, tmp_path / "b") == losses
    files = [(tmp_path / name / "clip.pkl").read_bytes() for name in "ab"]
    assert files[0] == files[1]

    model, preprocess = jclip.load(tmp_path / "a/clip.pkl")
    images = np.stack([preprocess(Image.new("RGB", (20, 16), rgb)) for rgb in COLOURS.values()])
    logits, _ = model(images, jclip.tokenize([f"a {name} square" for name in COLOURS]))
    assert logits.numpy().argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_too_few_pairs_are_named(captions, tmp_path):
    short = captions.with_name("short.jsonl")
    short.write_text(captions.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="short.jsonl: 1 pairs do not fill one --batch_size"):
        pretrain(short, tmp_path)


def test_a_broken_image_is_named(captions, tmp_path):
    (captions.parent / "bad.png").write_text("no picture")
    bad = captions.with_name("bad.jsonl")
    bad.write_text(json.dumps({"image": "bad.png", "caption": "a red square"}) + "\n")
    with pytest.raises(ValueError, match="bad.png"):
        pretrain(bad, tmp_path)
