"""`safe_load` returns the right arrays for every format, with little memory."""

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from runtime.paths import ROOT
from weight_files import safe_load
from weight_files.reader import BadFile

GOLDEN = ROOT / "tests/golden/weights"
VIEWS = ("views_zip.pt", "views_legacy.pth", "views_torch.pkl")


@pytest.mark.parametrize("name", VIEWS)
def test_views_and_number_types(name):
    loaded, expected = safe_load(GOLDEN / name), np.load(GOLDEN / "views.npz")
    assert list(loaded) == expected.files
    for key, array in loaded.items():
        kind = key.partition("_")[2] if key.startswith(("as_", "number_")) else "float32"
        assert array.dtype == np.dtype({"bfloat16": "float32"}.get(kind, kind)), key
        assert array.shape == expected[key].shape, key
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array.astype(np.float32), expected[key], err_msg=key)


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_pickles_of_every_protocol(tmp_path, protocol):
    values = {
        "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "foreign": np.arange(5, dtype=">f4"),
        "half": np.float16([0.5, 65504]),
        "flags": np.array([True, False]),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.uint8),
        "plain": {"epoch": 3, "best": np.float64(0.25), "names": ["a", ("b", None)], "lr": 1e-3},
    }
    path = tmp_path / "x.anything"
    path.write_bytes(pickle.dumps(values, protocol))
    loaded = safe_load(path)
    assert loaded.pop("plain") == values.pop("plain")
    for key, value in values.items():
        assert loaded[key].shape == value.shape and loaded[key].dtype == value.dtype.newbyteorder(
            "="
        )
        np.testing.assert_array_equal(loaded[key], value)


def test_jittor_file_and_its_checksum(tmp_path):
    import jittor as jt

    numbers = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    path = tmp_path / "weights.pkl"
    jt.save(
        {"w": jt.array(numbers), "one": jt.array(2.5), "half": jt.array(np.float16([1]))}, str(path)
    )
    loaded = safe_load(path)
    np.testing.assert_array_equal(loaded["w"], numbers)
    assert loaded["one"].tolist() == [2.5] and loaded["half"].dtype == np.float16
    data = bytearray(path.read_bytes())
    data[data.index(numbers.tobytes()) + 3] ^= 1  # changes a number of a well-formed pickle
    path.write_bytes(data)
    with pytest.raises(BadFile, match="checksum"):
        safe_load(path)


def test_jittor_reads_arrays_that_are_read_only_and_unaligned():
    import jittor as jt

    loaded = safe_load(GOLDEN / "vit_torch.pkl")
    assert not loaded["ln_final.weight"].flags.writeable
    for array in loaded.values():
        np.testing.assert_array_equal(jt.array(array).numpy().reshape(array.shape), array)


def test_torchscript_holds_sizes_as_openai_does():
    loaded = safe_load(GOLDEN / "vit_script.pt")
    assert loaded["context_length"] == 6 and type(loaded["context_length"]) is int
    assert loaded["input_resolution"] == 8 and loaded["vocab_size"].dtype == np.int64
    assert loaded["visual.conv1.weight"].dtype == np.float16


def test_safetensors_types(tmp_path):
    kinds = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
    values = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    values |= {"number": np.array(3, np.float32), "empty": np.zeros((2, 0), np.float32)}
    path = tmp_path / "x.safetensors"
    save_file(values, path, metadata={"format": "pt"})
    loaded = safe_load(path)
    assert loaded.keys() == values.keys()
    for key, value in values.items():
        assert loaded[key].dtype == value.dtype and loaded[key].shape == value.shape
        np.testing.assert_array_equal(loaded[key], value)


@pytest.mark.parametrize("kind", ["pickle", "safetensors", "zip"])
def test_large_arrays_are_held_once(tmp_path, kind):
    size = 16 << 20
    values = {f"{number}": np.zeros(size // 4, np.float32) for number in range(3)}
    path = tmp_path / "large"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(values, 4))
    elif kind == "safetensors":
        save_file(values, path)
    else:
        write_torch_zip(path, values)
    tracemalloc.start()
    loaded = safe_load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(array.nbytes for array in loaded.values()) == 3 * size
    # zipfile joins chunks, so one array may exist twice; all arrays twice would be 6 sizes
    assert peak < 4.2 * size


def write_torch_zip(path: Path, values: dict[str, np.ndarray]) -> None:
    """Writes what torch.save writes for flat float32 tensors, by pickle operations."""

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def count(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little")

    pickled = b"\x80\x02}("
    for key, value in values.items():
        storage = text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
        pickled += text(key) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage
        pickled += count(value.size) + b"tQK\x00" + count(value.size) + b"\x85K\x01\x85\x89"
        pickled += b"ccollections\nOrderedDict\n)RtR"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled + b"u.")
        for key, value in values.items():
            archive.writestr(f"archive/data/{key}", value.tobytes())
