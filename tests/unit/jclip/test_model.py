"""The towers against OpenAI's outputs, and the properties that the rest of the kit relies on."""

import json
from functools import cache

import jittor as jt
import numpy as np
import pytest

from benchmarks import seeded_inputs
from jclip import CLIP, ClipConfig, tokenize
from jclip.transformer import Transformer
from runtime.paths import ROOT
from tests.golden.clip import tiny_models

GOLDEN = ROOT / "tests/golden/clip"
TOLERANCE = 1e-4  # the promise of the kit, of the largest feature; measured: 1e-6
ROUNDING = 1e-5  # fp32 sums of the same terms in another order


@cache
def tiny(kind: str) -> CLIP:
    """The model of the golden files, in evaluation mode."""
    model = CLIP(ClipConfig(**tiny_models.SIZES[kind]), initialised=False)
    for name, parameter in model.named_parameters():
        value = seeded_inputs.seeded_weight(name, tuple(parameter.shape), tiny_models.SEED)
        parameter.update(jt.array(value))
    model.eval()
    return model


def images_of(count: int = tiny_models.IMAGES, seed: int = tiny_models.SEED):
    return seeded_inputs.seeded_images(count, 64, seed)


def close(ours, theirs, tolerance: float) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_features_equal_openai(kind):
    with np.load(GOLDEN / "features.npz") as golden:
        image, text = golden[f"{kind}_image"], golden[f"{kind}_text"]
    close(tiny(kind).encode_image(images_of()).numpy(), image, TOLERANCE)
    tokens = tokenize(list(seeded_inputs.SENTENCES), truncate=True)
    close(tiny(kind).encode_text(tokens).numpy(), text, TOLERANCE)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_parameters_have_openai_names_and_shapes(kind):
    golden = json.loads((GOLDEN / "parameters.json").read_text())[kind]
    ours = {name: list(value.shape) for name, value in tiny(kind).named_parameters()}
    assert ours == {name: shape or [1] for name, shape in golden.items()}  # Jittor has no 0-d array


def test_logits_are_scaled_cosines():
    model, images = tiny("vit"), images_of()
    tokens = tokenize(["a cat", "two dogs", "a red car"])
    per_image, per_text = (logits.numpy() for logits in model(images, tokens))
    a, b = model.encode_image(images).numpy(), model.encode_text(tokens).numpy()
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    close(per_image, 100 * a @ b.T, ROUNDING)  # exp(logit_scale) is 100
    np.testing.assert_array_equal(per_text, per_image.T)


def test_cutting_text_changes_nothing():
    model, tokens = tiny("vit"), tokenize(["a photo of a cat", "x"])
    ends = tokens.argmax(axis=1)
    whole = model.encode_embedded(model.embed_tokens(tokens), ends).numpy()
    close(model.encode_text(tokens).numpy(), whole, ROUNDING)
    close(model.encode_text(jt.array(tokens)).numpy(), whole, ROUNDING)
    tokens[:, ends.max() + 1 :] = 7  # tokens after the end are ignored
    close(model.encode_text(tokens).numpy(), whole, ROUNDING)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_image_feature_depends_on_its_row_alone(kind):
    """The features are the same bytes at any position in any batch."""
    model, images, others = tiny(kind), images_of(8), images_of(8, seed=5)
    features = model.encode_image(images).numpy()
    order = np.array([3, 7, 0, 5, 1, 6, 2, 4])
    np.testing.assert_array_equal(model.encode_image(images[order]).numpy(), features[order])
    others[6] = images[2]
    np.testing.assert_array_equal(model.encode_image(others).numpy()[6], features[2])


def test_text_feature_depends_on_its_row_alone():
    """Bit for bit, among batches that are cut to the same length."""
    model, tokens = tiny("vit"), tokenize(["a cat", "x", "a photo of a dog", "red", "", "blue car"])
    features = model.encode_text(tokens).numpy()
    np.testing.assert_array_equal(model.encode_text(tokens[::-1]).numpy(), features[::-1])
    others = tokenize(["one", "two", "three", "four", "five", "six"])
    others[5] = tokens[2]
    np.testing.assert_array_equal(model.encode_text(others).numpy()[5], features[2])


@pytest.mark.parametrize("causal", [False, True])
def test_the_last_blocks_one_token_is_that_of_all(causal):
    jt.set_global_seed(0)
    stack = Transformer(width=32, layers=2, heads=2, activation="quick_gelu", causal=causal)
    for value in stack.parameters():
        value.update(jt.randn(value.shape) * 0.1)
    stack.eval()
    x, positions = jt.randn(6, 10, 32), np.array([0, 9, 3, 3, 7, 1])
    with jt.no_grad():
        whole = x
        for block in stack.resblocks:
            whole = block(whole, causal)
        assert stack(x, positions).numpy().tobytes() == whole.numpy()[range(6), positions].tobytes()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_same_seed_same_bytes(kind):
    def fresh(seed: int) -> dict[str, np.ndarray]:
        jt.set_global_seed(seed)
        model = CLIP(ClipConfig(**tiny_models.SIZES[kind]))
        return {name: value.numpy() for name, value in model.named_parameters()}

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["visual.conv1.weight"], other["visual.conv1.weight"])
    assert first["positional_embedding"].std() == pytest.approx(0.01, rel=0.05)
    assert first["text_projection"].std() == pytest.approx(64**-0.5, rel=0.05)
    assert not any(value.any() for name, value in first.items() if name.endswith("in_proj_bias"))


def test_every_parameter_of_a_fresh_model_learns():
    model = CLIP(ClipConfig(**tiny_models.SIZES["vit"]))
    logits, _ = model(images_of(), tokenize(["a", "a b", "c d e", "f"]))
    loss = jt.nn.cross_entropy_loss(logits, jt.arange(4))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = jt.grad(loss, list(parameters))
    for name, gradient in zip(names, gradients, strict=True):
        assert np.isfinite(gradient.numpy()).all(), name
        assert np.abs(gradient.numpy()).max() > 0, name


def test_wrong_inputs_are_named():
    model = tiny("vit")
    with pytest.raises(ValueError, match=r"takes \[B, 3, 64, 64\]"):
        model.encode_image(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match="49408.*knows 0 to 49407"):
        model.encode_text(np.array([[49406, 49408]]))
    with pytest.raises(ValueError, match="L at most 77"):
        model.encode_text(np.zeros((1, 78), np.int32))
    with pytest.raises(ValueError, match="'relu' is none of quick_gelu, gelu"):
        CLIP(model.config, activation="relu")
