"""Every format gives the same CLIP, and errors list the names that do not fit."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from jclip.config import ClipConfig, infer_config
from jclip.weights import check_complete, load_state, read_activation, to_openai
from runtime.paths import ROOT

GOLDEN = ROOT / "tests/golden/weights"
FORMATS = sorted(path.name for path in GOLDEN.glob("vit_*"))
VIT = ClipConfig(
    embed_dim=4,
    image_resolution=8,
    vision_layers=1,
    vision_width=8,
    vision_patch_size=4,
    context_length=6,
    vocab_size=12,
    transformer_width=8,
    transformer_heads=1,
    transformer_layers=2,
)


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "vit.npz"))


def shapes_of(state: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in state.items()}


def test_all_formats_are_there():
    assert len(FORMATS) == 7


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_numbers(name, state):
    loaded, sizes = load_state(GOLDEN / name)
    assert sizes == VIT
    check_complete(loaded, shapes_of(state), name)
    for key, array in loaded.items():
        assert array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_jittor_variables_and_wrapping(tmp_path, state):
    import jittor as jt

    path = tmp_path / "ViT-B-32.pkl"
    variables = {f"module.{name}": jt.array(array) for name, array in state.items()}
    jt.save({"model": {"state_dict": variables}, "epoch": 3}, str(path))
    loaded, sizes = load_state(path)
    assert sizes == VIT and shapes_of(loaded) == shapes_of(state)
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


def test_resnet():
    loaded, sizes = load_state(GOLDEN / "resnet_legacy.pth")
    digests = json.loads((GOLDEN / "resnet.json").read_text())
    loaded_digests = {
        name: [list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()[:16]]
        for name, array in loaded.items()
    }
    assert loaded_digests == digests
    assert (sizes.vision_layers, sizes.vision_width, sizes.image_resolution) == (
        (1, 2, 1, 1),
        2,
        32,
    )
    assert sizes.vision_patch_size is None and not sizes.is_vit and sizes.vision_heads == 1


def test_heads(state):
    sizes = infer_config(state)
    assert ClipConfig(**vars(sizes) | {"vision_width": 768}).vision_heads == 12  # ViT-B
    assert ClipConfig(**vars(sizes) | {"vision_width": 1280}).vision_heads == 16  # OpenCLIP's ViT-H
    resnet = {"vision_layers": (3, 4, 6, 3), "vision_width": 64, "vision_patch_size": None}
    assert ClipConfig(**vars(sizes) | resnet).vision_heads == 32  # RN50


def saved(path: Path, state: dict) -> Path:
    path.write_bytes(pickle.dumps(state, 4))
    return path


@pytest.mark.parametrize(
    "name", ["text_projection", "visual.conv1.weight", "positional_embedding", "ln_final.weight"]
)
def test_a_missing_key_is_named(tmp_path, state, name):
    expected = shapes_of(state)
    del state[name]
    path = saved(tmp_path / "weights.pkl", state)
    with pytest.raises(ValueError, match=f"weights.pkl.*{name}"):
        check_complete(load_state(path)[0], expected, path)


def test_a_wrong_shape_is_named(tmp_path, state):
    path = saved(tmp_path / "weights.pkl", state | {"positional_embedding": np.ones(6, np.float32)})
    with pytest.raises(ValueError, match=r"weights.pkl: positional_embedding has shape \(6,\)"):
        load_state(path)
    path = saved(tmp_path / "weights.pkl", state | {"visual.ln_pre.bias": np.ones(3, np.float32)})
    with pytest.raises(
        ValueError, match=r"1 misshapen: visual.ln_pre.bias \(3,\) instead of \(8,\)"
    ):
        check_complete(load_state(path)[0], shapes_of(state), path)


def test_all_faults_come_in_one_message(state):
    expected = shapes_of(state) | {f"new.{number}": (1,) for number in range(12)}
    state["surplus"] = np.ones(2)
    state["ln_final.bias"] = np.ones(2)
    with pytest.raises(ValueError) as error:
        check_complete(state, expected, "file.pt")
    message = str(error.value)
    assert "\n" not in message and message.startswith("file.pt")
    for part in (
        "12 missing: new.0",
        "and 2 more",
        "1 extra: surplus",
        "1 misshapen: ln_final.bias",
    ):
        assert part in message
    assert "new.10" not in message


def test_one_number_may_have_an_axis(state):
    expected = shapes_of(state) | {"logit_scale": (1,)}
    check_complete(state, expected, "file.pt")


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "infinite or undefined"), (np.inf, "infinite")]
)
def test_numbers_that_are_not_finite(state, value, word):
    state["text_projection"][1, 2] = value
    with pytest.raises(ValueError, match=f"file.pt.*{word}.*text_projection"):
        to_openai(state, "file.pt")


@pytest.mark.parametrize("value", [np.ones((3, 4), np.int8), "text", [1.0], None])
def test_what_is_no_weight(state, value):
    with pytest.raises(ValueError, match="file.pt.*visual.proj"):
        to_openai(state | {"visual.proj": value}, "file.pt")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["visual.trunk.patch_embed.proj.weight"], "timm"),
        (["text.transformer.encoder.layer.0.output.dense.weight"], "another family"),
        (["module.logit_scale"], "with and without 'module.'"),
        (["text.token_embedding.weight"], "with and without 'text.'"),
    ],
)
def test_towers_of_other_families_and_double_names(state, names, match):
    with pytest.raises(ValueError, match=f"file.pt.*{match}"):
        to_openai(state | {name: np.ones(1, np.float32) for name in names}, "file.pt")


def test_what_follows_from_the_sizes_is_left_out(state):
    derived = {"transformer.resblocks.0.attn_mask": np.full((6, 6), -np.inf, np.float32)}
    derived |= {"input_resolution": np.array(8), "context_length": 6, "vocab_size": np.float32(12)}
    assert to_openai(state | derived, "file.pt").keys() == state.keys()


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_hugging_face_with_a_part_of_attention_missing(part):
    from weight_files import safe_load

    contents = safe_load(GOLDEN / "vit_huggingface.safetensors")
    name = f"text_model.encoder.layers.1.self_attn.{part}_proj.weight"
    del contents[name]
    with pytest.raises(ValueError, match=f"file.pt: {name}.* is missing"):
        to_openai(contents, "file.pt")


def test_a_dictionary_of_something_else(tmp_path):
    path = saved(tmp_path / "other.pkl", {"fc.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(ValueError, match="other.pkl: not the weights of a CLIP"):
        load_state(path)


def test_activation_comes_from_the_configuration_beside(tmp_path):
    weights = tmp_path / "model.safetensors"
    assert read_activation(weights) is None
    config = tmp_path / "config.json"
    towers = {"text_config": {"hidden_act": "gelu"}, "vision_config": {"hidden_act": "gelu"}}
    config.write_text(json.dumps(towers))
    assert read_activation(weights) == "gelu"
    assert read_activation(tmp_path / "ViT-B-32.pt") is None
    towers["vision_config"] = {"patch_size": 32}  # CLIPConfig's default is QuickGELU
    config.write_text(json.dumps(towers))
    with pytest.raises(ValueError, match="config.json has activations"):
        read_activation(weights)
    towers["text_config"] = {"hidden_act": "quick_gelu"}
    config.write_text(json.dumps(towers))
    assert read_activation(weights) == "quick_gelu"
    config.unlink()
    model = {"model_cfg": {"quick_gelu": True}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(model))
    assert read_activation(weights) == "quick_gelu"
