"""The settings of LoRA, and one adapter by itself."""

import jittor as jt
import numpy as np
import pytest

from benchmarks.parity import MODELS
from jclip import CLIP
from models.lora import (
    LoraAdapters,
    LoraConfig,
    LowRank,
    adapted_layers,
    adapter_widths,
    apply_adapters,
)
from tests.helpers.tiny_clip import TINY


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
