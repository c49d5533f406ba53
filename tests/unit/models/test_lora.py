"""LoRA on small towers: what the adapters change, what they keep, and their errors."""

from dataclasses import replace
from functools import cache

import jittor as jt
import numpy as np
import pytest

from benchmarks import seeded_inputs
from benchmarks.parity import MODELS
from engine import checkpoint
from jclip import CLIP, ClipConfig, tokenize
from jclip.transformer import Attention
from models.lora import (
    LoraAdapters,
    LoraConfig,
    LowRank,
    adapted_layers,
    adapter_widths,
    apply_adapters,
    initial_values,
)
from tests.golden.clip import tiny_models
from tests.helpers.tiny_clip import TINY
from weight_files import safe_load

EVERY = LoraConfig(targets=("q", "k", "v", "o", "fc", "proj"))
SIZES = ClipConfig(**tiny_models.SIZES["vit"])  # two blocks per tower
TOWER = {"image": "visual.transformer", "text": "transformer"}


@cache
def model() -> CLIP:
    """Seeded weights under OpenAI's names, in evaluation mode."""
    clip = CLIP(SIZES, initialised=False)
    for name, parameter in clip.named_parameters():
        value = seeded_inputs.seeded_weight(name, tuple(parameter.shape), tiny_models.SEED)
        parameter.update(jt.array(value))
    return clip.eval()


@pytest.fixture
def attach():
    """Attaches adapters, with B away from 0 if `learned`, and detaches them at the end."""
    attached = []

    def build(config: LoraConfig = LoraConfig(), seed: int = 0, learned: bool = True):  # noqa: B008
        attached.append(LoraAdapters(model(), config, seed))
        if learned:
            learn(attached[-1])
        return attached[-1]

    yield build
    for adapters in attached:
        adapters.detach()


def learn(adapters: LoraAdapters) -> None:
    """Sets every B to seeded values."""
    random = np.random.default_rng(1)
    for name, variable in adapters.named_parameters():
        if name.endswith("B"):
            variable.update(jt.array(random.normal(0, 0.2, variable.shape).astype(np.float32)))


def features() -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of four images and of four sentences."""
    images = seeded_inputs.seeded_images(4, SIZES.image_resolution, 3)
    tokens = tokenize(["a cat", "x", "two dogs on a red car", "a blue cat"])
    return model().encode_image(images).numpy(), model().encode_text(tokens).numpy()


def weights() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model().named_parameters()}


@pytest.mark.parametrize("training", [True, False])
def test_first_step_is_the_model_itself(attach, training):
    before = features()
    adapters = attach(replace(EVERY, targets=("q", "k", "v", "o")), learned=False)
    adapters.train() if training else adapters.eval()
    for plain, adapted in zip(before, features(), strict=True):
        np.testing.assert_array_equal(adapted, plain)


def test_first_step_in_the_mlp_is_the_model_but_for_the_rounding_of_its_activation(attach):
    before = features()
    attach(replace(EVERY, targets=("fc", "proj")), learned=False)
    for plain, adapted in zip(before, features(), strict=True):
        # one operator computes the MLP if nothing is adapted; fp32, two blocks, values up to 3
        np.testing.assert_allclose(adapted, plain, rtol=0, atol=5e-6)


def test_only_the_adapters_learn(attach):
    before = weights()
    adapters = attach(EVERY, learned=False)
    assert list(before) == [name for name, _ in model().named_parameters()]
    first = adapters.state()["arrays"]
    optimizer = jt.optim.AdamW(adapters.parameters(), 1e-3, weight_decay=1e-2)
    adapters.train()
    images = seeded_inputs.seeded_images(4, SIZES.image_resolution, 3)
    tokens = tokenize(["a cat", "x", "two dogs", "a car"])
    losses = []
    for _ in range(3):
        image = jt.normalize(model().encode_image(images), dim=1)
        text = jt.normalize(model().encode_text(tokens), dim=1)
        logits = 100 * jt.nn.matmul_transpose(image, text)
        loss = jt.nn.cross_entropy_loss(logits, jt.arange(4))
        optimizer.step(loss)
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert all(parameter.is_stop_grad() for _, parameter in model().named_parameters())
    after = weights()
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    last = adapters.state()["arrays"]
    assert all((last[name] != first[name]).mean() > 0.99 for name in first)


def test_merged_is_unmerged(attach):
    plain, before = features(), weights()
    adapters = attach(EVERY).eval()
    adapted = features()
    adapters.merge()
    once, merged = weights(), features()
    adapters.merge()
    twice = weights()
    assert all(once[name].tobytes() == twice[name].tobytes() for name in once)
    for a, b, c in zip(adapted, merged, plain, strict=True):
        # the promise of the kit, of the largest feature; fp32 sums of the same in another order
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max())
        assert np.abs(a - c).max() > 0.1 * np.abs(c).max()  # far more than that was merged
    adapters.unmerge()
    assert all(value.tobytes() == before[name].tobytes() for name, value in weights().items())
    for a, b in zip(adapted, features(), strict=True):
        np.testing.assert_array_equal(b, a)


@pytest.mark.parametrize("merged", [True, False])
def test_detached_is_as_before(attach, merged):
    plain, before = features(), weights()
    adapters = attach(EVERY)
    if merged:
        adapters.merge()
    adapters.detach()
    assert all(type(block.attn) is Attention for block in model().transformer.resblocks)
    assert all(value.tobytes() == before[name].tobytes() for name, value in weights().items())
    for a, b in zip(plain, features(), strict=True):
        np.testing.assert_array_equal(b, a)


def test_training_and_loading_unmerge(attach):
    before = weights()
    adapters = attach()
    for act in (adapters.train, lambda: adapters.load(adapters.state())):
        adapters.merge()
        assert any((value != before[name]).any() for name, value in weights().items())
        act()
        assert all((value == before[name]).all() for name, value in weights().items())


WEIGHTS = {
    "q": ("attn.in_proj_weight", 0),
    "k": ("attn.in_proj_weight", 1),
    "v": ("attn.in_proj_weight", 2),
    "o": ("attn.out_proj.weight", None),
    "fc": ("mlp.c_fc.weight", None),
    "proj": ("mlp.c_proj.weight", None),
}


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [({"targets": (target,)}, {"image": (0, 1), "text": (0, 1)}) for target in WEIGHTS]
    + [
        ({"targets": ("v", "q"), "towers": ("image",)}, {"image": (0, 1)}),
        ({"targets": ("k", "fc"), "towers": ("text",)}, {"text": (0, 1)}),
        ({"layers": "half-bottom"}, {"image": (0,), "text": (0,)}),
        ({"layers": "half-top"}, {"image": (1,), "text": (1,)}),
        ({"layers": "1-1", "towers": ("text",)}, {"text": (1,)}),
    ],
)
def test_each_choice_changes_what_it_names(attach, changes, blocks):
    plain, before = features(), weights()
    config = LoraConfig(**changes)
    adapters = attach(config).eval()
    names = {
        f"{tower}.{i}.{target}.{letter}"
        for tower, numbers in blocks.items()
        for i in numbers
        for target in config.targets
        for letter in "AB"
    }
    assert {name for name, _ in adapters.named_parameters()} == names
    for tower, a, b in zip(("image", "text"), plain, features(), strict=True):
        assert (a != b).any() == (tower in blocks)
    adapters.merge()
    arrays = adapters.state()["arrays"]
    for name in sorted(name[:-2] for name in names if name.endswith("A")):
        tower, i, target = name.split(".")
        weight, part = WEIGHTS[target]
        expected = before[f"{TOWER[tower]}.resblocks.{i}.{weight}"]  # a copy that is changed here
        width = expected.shape[1]
        rows = slice(None) if part is None else slice(part * width, (part + 1) * width)
        expected[rows] += arrays[f"{name}.B"] @ arrays[f"{name}.A"] / np.sqrt(2)
    for name, value in weights().items():
        # one more rounding of the sum if the factor is applied in another order
        np.testing.assert_allclose(value, before[name], rtol=0, atol=1e-6, err_msg=name)


def test_initial_values_follow_from_name_and_seed(attach):
    def start(config: LoraConfig, seed: int) -> dict[str, np.ndarray]:
        adapters = attach(config, seed, learned=False)
        adapters.detach()
        return adapters.state()["arrays"]

    every, some = start(EVERY, 5), start(LoraConfig(layers="1-1"), 5)
    assert all((every[name] == value).all() for name, value in some.items())
    assert (every["image.0.q.A"] != every["image.0.k.A"]).all()
    assert (every["image.0.q.A"] != start(EVERY, 6)["image.0.q.A"]).all()
    assert not any(value.any() for name, value in every.items() if name.endswith("B"))
    drawn = initial_values("text.0.proj", 8, 256, 5)
    # uniform in +-1/16: the deviation is 1/16/sqrt(3), of 2,048 draws exact to about 1.4 %
    assert 0.99 / 16 < np.abs(drawn).max() <= 1 / 16
    assert drawn.std() == pytest.approx(1 / 16 / np.sqrt(3), rel=0.06)


def test_dropout_is_seeded_and_rests_in_evaluation(attach):
    adapters = attach(EVERY)

    def drawn(seed: int) -> np.ndarray:
        jt.set_global_seed(seed)  # 0 and 1 are one stream on the CPU
        return np.concatenate(features())

    adapters.train()
    first = drawn(2)
    np.testing.assert_array_equal(drawn(2), first)
    assert (drawn(3) != first).mean() > 0.9
    adapters.eval()
    np.testing.assert_array_equal(drawn(2), drawn(3))


def test_state_comes_back_from_a_file(attach, tmp_path):
    adapters = attach(EVERY, seed=1).eval()
    expected = features()
    checkpoint.save(tmp_path / "lora.pkl", adapters.state())
    adapters.detach()
    other = attach(replace(EVERY, targets=EVERY.targets[::-1]), seed=2).eval()
    assert (features()[0] != expected[0]).any()
    other.load(safe_load(tmp_path / "lora.pkl"))
    for a, b in zip(expected, features(), strict=True):
        np.testing.assert_array_equal(b, a)
    other.train()
    assert not any(variable.is_stop_grad() for variable in other.parameters())


def test_load_refuses_others(attach):
    adapters = attach()
    good = adapters.state()
    assert good["config"]["factor"] == pytest.approx(2**-0.5)
    arrays = dict(good["arrays"])
    arrays["image.0.q.A"] = arrays["image.0.q.A"][:1]
    arrays["text.0.v.B"] = arrays["text.0.v.B"].astype(np.float64)
    arrays["text.7.q.A"] = arrays.pop("text.0.q.A")
    with pytest.raises(ValueError) as error:
        adapters.load({"config": good["config"] | {"rank": 4}, "arrays": arrays})
    for part in (
        "rank is 4, here 2",
        "image.0.q.A is float32 [1, 128], here float32 [2, 128]",
        "text.0.v.B is float64 [64, 2], here float32 [64, 2]",
        "text.7.q.A is float32 [2, 64], here missing",
        "text.0.q.A is missing, here float32 [2, 64]",
    ):
        assert part in str(error.value)
    assert str(error.value).count("here") == 5
    for name, value in adapters.state()["arrays"].items():  # nothing was changed
        np.testing.assert_array_equal(value, good["arrays"][name])


def test_models_that_cannot_be_adapted(attach):
    resnet = ClipConfig(**tiny_models.SIZES["resnet"])
    with pytest.raises(ValueError, match=r"ResNet .* use towers=\('text',\)"):
        adapter_widths(resnet, LoraConfig())
    assert len(adapter_widths(resnet, LoraConfig(towers=("text",)))) == 2 * 3
    attach(LoraConfig(targets=("fc",)))
    with pytest.raises(ValueError, match="has adapters already"):
        LoraAdapters(model(), LoraConfig(), seed=0)
    with pytest.raises(ValueError, match="in training mode"):
        LoraAdapters(CLIP(TINY, initialised=False), LoraConfig(), seed=0)


def test_count():
    # for ViT-B/32: A and B of q, k, v in 12 blocks of widths 768 and 512, rank 2
    widths = adapter_widths(MODELS["ViT-B/32"], LoraConfig())
    assert sum(2 * (inputs + outputs) for inputs, outputs in widths.values()) == 184_320
    config = LoraConfig(rank=3, targets=("q", "k", "v", "o", "fc", "proj"))
    tiny = LoraAdapters(CLIP(TINY, initialised=False).eval(), config, seed=0)
    # a block of width 64: four square projections, and two that are four times as wide at one end
    assert tiny.count == 2 * 3 * (4 * 2 * 64 + 2 * 5 * 64)


def test_layers():
    chosen = {name: list(adapted_layers(name, 12)) for name in ("bottom", "middle", "top", "8-11")}
    assert chosen == {
        "bottom": [0, 1, 2, 3],
        "middle": [4, 5, 6, 7],
        "top": [8, 9, 10, 11],
        "8-11": [8, 9, 10, 11],
    }
    assert list(adapted_layers("half-top", 24)) == list(range(12, 24))
    assert list(adapted_layers("all", 3)) == [0, 1, 2]
    for layers, depth in (("8-12", 12), ("3-2", 12), ("bottom", 2)):
        with pytest.raises(ValueError, match=f"layers '{layers}' do not fit .* {depth} blocks"):
            adapted_layers(layers, depth)


def test_factor():
    first = np.ones((4, 3), np.float32)
    products = {}
    for scaling in ("sqrt", "rank"):
        adapter = LowRank(first, 5, LoraConfig(rank=4, alpha=3.0, scaling=scaling).factor, 0.0)
        adapter.B.update(jt.ones((5, 4)))
        products[scaling] = adapter.weight_change()
    np.testing.assert_array_equal(products["sqrt"], np.full((5, 3), 4 * 3 / 2))
    np.testing.assert_array_equal(products["rank"], np.full((5, 3), 4 * 3 / 4))


def test_dropout_keeps_the_mean_and_differs_between_projections():
    width, share = 64, 0.25
    adapters = {i: LowRank(np.eye(width, dtype=np.float32), width, 1.0, share) for i in (0, 2)}
    for adapter in adapters.values():
        adapter.B.update(jt.array(np.eye(width, dtype=np.float32)))
    jt.set_global_seed(0)
    x = jt.ones((2, 50, width))
    none = jt.zeros((2, 50, 3 * width))
    query, key, value = np.split(
        apply_adapters(none, x, [*adapters.values()], (0, 2)).numpy(), 3, axis=2
    )
    np.testing.assert_array_equal(key, 0)
    for change in (query, value):
        np.testing.assert_allclose(np.unique(change), [0, 1 / (1 - share)], rtol=1e-6)  # fp32
        # 6,400 draws: four standard deviations of their share
        assert (change == 0).mean() == pytest.approx(share, abs=4 * (share * 0.75 / 6400) ** 0.5)
    assert (query != value).mean() == pytest.approx(2 * share * (1 - share), abs=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank 0 is below 1"),
        ({"alpha": 0.0}, "alpha 0.0 is not above 0"),
        ({"dropout": 1.0}, r"dropout 1.0 is outside \[0, 1\)"),
        ({"targets": ("q", "z")}, "targets .*'z'.* are not some of q, k, v, o, fc, proj"),
        ({"targets": ("q", "q")}, "each once"),
        ({"towers": ()}, r"towers \(\) are not some of image, text"),
        ({"layers": "last"}, "layers 'last' is none of all, .*first-last"),
        ({"scaling": "none"}, "scaling 'none' is none of sqrt, rank"),
        ({"rank": 0, "layers": ""}, "rank 0 is below 1; layers ''"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)
