"""`jclip.load`: the model has the weights of the file, and can be trained."""

import pickle

import jittor as jt
import numpy as np
import pytest

import jclip
from benchmarks import seeded_inputs
from tests.golden.clip import tiny_models

SIZES = jclip.ClipConfig(**tiny_models.SIZES["vit"])


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    model = jclip.CLIP(SIZES, initialised=False)
    return {
        name: seeded_inputs.seeded_weight(name, tuple(value.shape), tiny_models.SEED)
        for name, value in model.named_parameters()
    }


def write(path, state) -> str:
    path.write_bytes(pickle.dumps(state, protocol=4))
    return str(path)


def test_load_gives_the_weights_of_the_file(tmp_path, state):
    model, preprocess = jclip.load(write(tmp_path / "clip.pkl", state))
    assert model.config == SIZES
    for name, value in model.named_parameters():
        np.testing.assert_array_equal(value.numpy().reshape(state[name].shape), state[name])
    image = preprocess(seeded_inputs.photo("RGB", 100, 80, 0))
    assert image.shape == (3, 64, 64) and image.dtype == np.float32
    assert model.encode_image(image[None]).shape == [1, 32]
    assert not any(module.is_training() for module in model.modules())


def test_a_loaded_model_learns_in_train_mode(tmp_path, state):
    model, _ = jclip.load(write(tmp_path / "clip.pkl", state))
    model.train()
    optimizer = jt.optim.SGD(model.parameters(), lr=0.1)
    images = seeded_inputs.seeded_images(4, 64, 0)
    logits, _ = model(images, jclip.tokenize(["a", "a b", "c d e", "f"]))
    optimizer.step(jt.nn.cross_entropy_loss(logits, jt.arange(4)))
    moved = {n for n, p in model.named_parameters() if not np.array_equal(p.numpy(), state[n])}
    assert moved == set(state)


def test_activation_can_be_chosen(tmp_path, state):
    file = write(tmp_path / "clip.pkl", state)
    images = seeded_inputs.seeded_images(4, 64, 0)
    quick, exact = (
        jclip.load(file, activation=name)[0].encode_image(images).numpy()
        for name in ("quick_gelu", "gelu")
    )
    # The two curves differ by 0.02 at most: features must differ, but not by much.
    assert 1e-4 < np.abs(quick - exact).max() / np.abs(quick).max() < 0.3


def test_a_file_that_does_not_fit_is_refused(tmp_path, state):
    incomplete = {name: value for name, value in state.items() if name != "visual.ln_post.bias"}
    with pytest.raises(ValueError, match=r"less\.pkl.*missing.*visual\.ln_post\.bias"):
        jclip.load(write(tmp_path / "less.pkl", incomplete))
    with pytest.raises(ValueError, match=r"more\.pkl.*extra.*visual\.head"):
        jclip.load(write(tmp_path / "more.pkl", {**state, "visual.head": np.ones(3, np.float32)}))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="ViT-Z/99 is neither a file.*ViT-B/32"):
        jclip.load("ViT-Z/99")
