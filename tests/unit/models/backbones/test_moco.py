"""The auxiliary ResNet-50 against one written in torch, and the errors of loading it."""

from functools import cache

import jittor as jt
import numpy as np
import pytest
from PIL import Image

from benchmarks.seeded_inputs import photo, seeded_images, seeded_weight
from models.backbones.moco import (
    FEATURES,
    MEAN,
    STD,
    MocoEncoder,
    load_moco,
    preprocess,
    to_torchvision,
)
from runtime.paths import ROOT

pytestmark = pytest.mark.slow

GOLDEN = ROOT / "tests/golden/moco/features.npz"
TOLERANCE = 1e-4  # of the largest feature: 53 layers of fp32 sums in another order; measured: 6e-7


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in MocoEncoder().resnet.state_dict().items()}


@cache
def weights(seed: int) -> dict[str, np.ndarray]:
    return {name: seeded_weight(name, shape, seed) for name, shape in shapes().items()}


def as_checkpoint(state: dict[str, np.ndarray], encoder: str, others: tuple[str, ...]) -> dict:
    """Returns a checkpoint as MoCo v3 stores it; the encoders `others` hold other numbers."""
    names = {f"module.{encoder}.{name}": value for name, value in state.items()}
    names |= {
        f"module.{other}.{name}": value + 1 for other in others for name, value in state.items()
    }
    for prefix in (encoder, *others):
        names[f"module.{prefix}.fc.0.weight"] = np.ones((4, 2), np.float32)
        names[f"module.{prefix}.fc.1.num_batches_tracked"] = np.int64(7)
        names[f"module.{prefix}.bn1.num_batches_tracked"] = np.array(7)
    names["module.predictor.0.weight"] = np.ones((4, 2), np.float32)
    return {"epoch": 1000, "arch": "resnet50", "state_dict": names, "optimizer": {"state": {}}}


def small() -> dict[str, np.ndarray]:
    """Two of the names; what is wrong with them is not for `to_torchvision` to say."""
    return {"conv1.weight": np.arange(6, dtype=np.float32), "bn1.bias": np.ones(2, np.float32)}


def same(ours: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
        assert ours[name].dtype == np.float32


def test_features_equal_torch_and_nothing_moves():
    with np.load(GOLDEN) as golden:
        features, norms, seed = golden["features"], golden["norms"], int(golden["seed"])
    contents = as_checkpoint(weights(seed), "base_encoder", ())
    encoder = load_moco(contents, "res1000epoch.pkl")
    images = seeded_images(len(features), 224, seed)
    ours = encoder.encode(images)
    assert tuple(ours.shape) == (len(features), FEATURES) and ours.dtype == "float32"
    largest = np.abs(features).max()
    np.testing.assert_allclose(
        ours.numpy()[:, : features.shape[1]], features, rtol=0, atol=TOLERANCE * largest
    )
    np.testing.assert_allclose(np.linalg.norm(ours.numpy(), axis=1), norms, rtol=TOLERANCE)
    # Evaluation mode: running statistics are used and kept, and an image's features are its own.
    assert not encoder.is_training() and ours.is_stop_grad()
    assert all(value.is_stop_grad() for value in encoder.parameters())
    same(
        {name: value.numpy() for name, value in encoder.resnet.state_dict().items()}, weights(seed)
    )
    turned = encoder.encode(jt.array(images[::-1].copy())).numpy()
    np.testing.assert_allclose(turned[::-1], ours.numpy(), rtol=0, atol=TOLERANCE * largest)


def test_names_are_torchvisions():
    names = shapes()
    assert len(names) == 53 * 5  # 53 convolutions, each with a norm of four arrays
    assert names["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert names["layer4.0.downsample.1.running_var"] == (2048,)
    assert sum(int(np.prod(s)) for n, s in names.items() if "running" not in n) == 23_508_032


@pytest.mark.parametrize(
    ("encoder", "others"),
    [
        ("base_encoder", ()),
        ("base_encoder", ("momentum_encoder",)),
        ("momentum_encoder", ()),
    ],
)
def test_checkpoints_of_moco(encoder, others):
    contents = as_checkpoint(small(), encoder, others)
    same(to_torchvision(contents, "file.pkl"), small())
    names = contents["state_dict"].items()
    bare = {name.removeprefix("module."): value for name, value in names}
    same(to_torchvision(bare, "file.pkl"), small())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_plain_dictionaries(prefix, wrapper):
    head = {"fc.weight": np.ones((9, 2), np.float32), "bn1.num_batches_tracked": np.array(3)}
    state = {f"{prefix}{name}": value for name, value in (small() | head).items()}
    same(to_torchvision({wrapper: state} if wrapper else state, "file.pkl"), small())


def test_half_and_double_precision_become_float32():
    state = {
        name: value.astype(kind)
        for (name, value), kind in zip(small().items(), (np.float16, np.float64), strict=True)
    }
    same(to_torchvision(state, "file.pkl"), small())


def test_strange_names_stay_and_are_refused_with_the_rest():
    """Every fault in one message, which names the file."""
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes().items()}
    del state["layer2.1.bn3.running_mean"]
    state["bn1.weight"] = np.zeros(65, np.float32)
    state = {f"module.base_encoder.{name}": value for name, value in state.items()}
    state["module.queue"] = np.zeros(3, np.float32)
    match = (
        r"res1000epoch.pkl does not fit.*1 missing: layer2.1.bn3.running_mean; "
        r"1 extra: queue; 1 misshapen: bn1.weight \(65,\) instead of \(64,\)"
    )
    with pytest.raises(ValueError, match=match):
        load_moco({"state_dict": state}, "res1000epoch.pkl")


@pytest.mark.parametrize(
    "value", [np.array([1, np.nan]), np.array([1e300]), np.ones(2, np.int64), "text", [1.0]]
)
def test_what_is_no_weight_is_refused(value):
    with pytest.raises(ValueError, match="file.pkl.*bn1.bias"):
        to_torchvision(small() | {"bn1.bias": value}, "file.pkl")


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 32)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes \[B, 3, R, R\]"):
        MocoEncoder().encode(np.zeros(shape, np.float32))


def test_pixels_of_an_image_that_needs_no_resizing():
    image = photo("RGB", 256, 256, 1)
    pixels = preprocess(image)
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    cut = np.asarray(image, np.float32)[16:240, 16:240] / 255  # [R,R,3]
    np.testing.assert_allclose(pixels, ((cut - MEAN) / STD).transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("sides", [(64, 32), (1024, 512), (600, 300)])
def test_resizing_is_bilinear_and_squashes_nothing(sides):
    """Twice as wide as high, dark left half: the edge stays in the middle and never overshoots."""
    columns = np.full((sides[1], sides[0], 3), 50, np.uint8)
    columns[:, sides[0] // 2 :] = 200
    pixels = preprocess(Image.fromarray(columns)) * STD[:, None, None] + MEAN[:, None, None]
    assert pixels.shape == (3, 224, 224)
    assert pixels.min() == pytest.approx(50 / 255, abs=1e-6)  # bicubic would go below and above
    assert pixels.max() == pytest.approx(200 / 255, abs=1e-6)
    middle = 125 / 255
    assert (pixels[:, :, :112] < middle).all() and (pixels[:, :, 112:] > middle).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb_first(mode):
    image = photo(mode, 40, 60, 1)
    np.testing.assert_array_equal(preprocess(image), preprocess(image.convert("RGB")))


@pytest.mark.parametrize("size", [(0, 5), (1, 60_000)])
def test_slivers_are_refused(size):
    with pytest.raises(ValueError, match=f"too narrow: {size[0]} x {size[1]} pixels"):
        preprocess(Image.new("RGB", size))
