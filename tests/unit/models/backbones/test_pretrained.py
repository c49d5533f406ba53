"""Loading public weights: strictly, whole, and without torch."""

import pickle
import re
from functools import cache
from pathlib import Path

import jittor as jt
import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.seeded_inputs import seeded_weight
from models.backbones import networks
from models.backbones.pretrained import load_pretrained, resize_positions
from tests.helpers.golden import GOLDEN, load_golden
from tests.helpers.golden_networks import SEED
from weight_files import safe_load

TINY = {"image_size": 8, "patch_size": 4, "depth": 1, "width": 12}
TORCH_FILES = ("tiny_deit.pth", "tiny_deit_legacy.pth")  # written by torch, from timm's network


def deit(classes: int = 3, **options) -> jt.Module:
    return networks.build_network("deit_tiny", classes, **(TINY | options))


@cache
def state() -> dict[str, np.ndarray]:
    shapes = {name: tuple(value.shape) for name, value in deit().state_dict().items()}
    return {name: seeded_weight(name, shape, SEED) for name, shape in shapes.items()}


def arrays(module: jt.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def saved(path: Path, contents: dict) -> Path:
    path.write_bytes(pickle.dumps(contents, protocol=4))
    return path


def load_file(module: jt.Module, path: Path, **options: str) -> None:
    load_pretrained(module, safe_load(path), path, **options)


@pytest.mark.parametrize("file", [*TORCH_FILES, "safetensors", "pickle", "checkpoint", "parallel"])
def test_loads_every_kind_of_file(tmp_path, file):
    path = tmp_path / "weights"
    if file in TORCH_FILES:
        path = GOLDEN / "networks" / file
    elif file == "safetensors":
        save_file(state(), path)
    else:
        contents = {
            "pickle": state() | {"bn1.num_batches_tracked": np.array(3)},
            "checkpoint": {"epochs_done": 3, "module": state()},
            "parallel": {"model": {f"module.{name}": value for name, value in state().items()}},
        }
        saved(path, contents[file])
    module = deit()
    load_file(module, path)
    loaded = arrays(module)
    assert all((loaded[name] == state()[name]).all() for name in state())
    assert not any(value.is_stop_grad() for value in module.state_dict().values())


def test_a_resnet_with_its_statistics(tmp_path):
    module = networks.build_network("resnet18", 7)
    variables = module.state_dict().items()
    contents = {name: seeded_weight(name, tuple(value.shape), SEED) for name, value in variables}
    counters = {"bn1.num_batches_tracked": np.array(100_000)}  # as torchvision's files hold them
    load_file(module, saved(tmp_path / "resnet18.pth", contents | counters))
    loaded = arrays(module)
    assert all((loaded[name] == contents[name]).all() for name in contents)
    assert {n for n, v in module.state_dict().items() if v.is_stop_grad()} == {
        name for name in contents if "running" in name
    }


def test_another_classifier_is_replaced_only_when_asked(tmp_path):
    module = deit(classes=5)
    before = arrays(module)
    with pytest.raises(ValueError, match=r'4 misshapen.*classes="replace" keeps'):
        load_file(module, GOLDEN / "networks" / TORCH_FILES[0])
    assert all((before[name] == value).all() for name, value in arrays(module).items())
    load_file(module, GOLDEN / "networks" / TORCH_FILES[0], classes="replace")
    for name, value in arrays(module).items():
        assert (value == (before if name.startswith("head") else state())[name]).all(), name
    headless = {n: v for n, v in state().items() if not n.startswith("head")}
    path = saved(tmp_path / "body.pkl", headless)
    load_file(deit(classes=5), path, classes="replace")
    load_file(deit(classes=0), path)
    with pytest.raises(ValueError, match="body.pkl does not fit.*4 missing: head.weight"):
        load_file(deit(), path)


def test_every_fault_in_one_message(tmp_path):
    wrong = dict(state(), extra=np.ones(2, np.float32))
    del wrong["norm.bias"]
    wrong["blocks.0.norm1.bias"] = np.ones(13, np.float32)
    module = deit()
    before = arrays(module)
    match = (
        r"wrong.pkl does not fit.*1 missing: norm.bias; 1 extra: extra; "
        r"1 misshapen: blocks.0.norm1.bias \(13,\) instead of \(12,\)$"
    )
    with pytest.raises(ValueError, match=match):
        load_file(module, saved(tmp_path / "wrong.pkl", wrong))
    assert all((before[name] == value).all() for name, value in arrays(module).items())
    for value in (np.array([1, np.nan]), np.ones(12, np.int64), "text"):
        path = saved(tmp_path / "bad.pkl", state() | {"norm.bias": value})
        with pytest.raises(ValueError, match="bad.pkl.*norm.bias"):
            load_file(module, path)
    with pytest.raises(ValueError, match="classes 'drop' is none of keep, replace"):
        load_file(module, GOLDEN / "networks" / TORCH_FILES[0], classes="drop")


def test_a_prefix_takes_part_of_a_file(tmp_path):
    contents = {f"encoder.{name}": value for name, value in state().items()}
    path = saved(tmp_path / "both.pkl", {"module": contents | {"head.0": np.ones(2, np.int64)}})
    module = deit()
    load_file(module, path, prefix="encoder.")
    assert (module.norm.weight.numpy() == state()["norm.weight"]).all()
    with pytest.raises(ValueError, match="missing"):
        load_file(module, path, prefix="teacher.")


@pytest.mark.parametrize("side", [4, 9])
def test_positions_are_resized_as_timm_does(side):
    ours = resize_positions(
        load_golden("networks/positions")["embedding"], side * side + 2, 2, "file"
    )
    # both fp32; measured 1.2e-7 and 2.4e-7
    np.testing.assert_allclose(ours, load_golden("networks/positions")[f"side_{side}"], atol=1e-6)


def test_positions_of_another_size_are_resized_only_when_asked():
    module = deit(image_size=16)
    with pytest.raises(ValueError, match='misshapen: pos_embed.*positions="resize" fits'):
        load_file(module, GOLDEN / "networks" / TORCH_FILES[0])
    load_file(module, GOLDEN / "networks" / TORCH_FILES[0], positions="resize")
    loaded = arrays(module)
    assert loaded["pos_embed"].shape == (1, 18, 12)
    assert (loaded["pos_embed"][:, :2] == state()["pos_embed"][:, :2]).all()
    assert (loaded["norm.bias"] == state()["norm.bias"]).all()


@pytest.mark.parametrize("shape", [(1, 8, 12), (8, 12), (1, 2, 12)])
def test_positions_that_are_no_grid(shape):
    with pytest.raises(ValueError, match=re.escape(f"file: pos_embed {shape} is no square grid")):
        resize_positions(np.zeros(shape, np.float32), 18, 2, "file")
