"""Files that would run code are refused before anything runs; damaged ones end in one line."""

import io
import os
import pickle
import random
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from runtime.paths import ROOT
from tests.robustness.hostile_weights import LEGACY, Calls, text
from weight_files import limits, safe_load
from weight_files.reader import BadFile, UnsafeFile

GOLDEN = ROOT / "tests/golden/weights"


def plain(payload: bytes) -> bytes:
    return payload


def in_zip(payload: bytes, member: str = "data.pkl") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"archive/{member}", payload)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def in_script(payload: bytes) -> bytes:
    buffer = io.BytesIO(in_zip(payload))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    return buffer.getvalue()


def in_legacy(payload: bytes) -> bytes:
    return LEGACY + payload + pickle.dumps([], 2)


def in_nested_storage(payload: bytes) -> bytes:
    inner = in_legacy(payload)
    call = b"ctorch.storage\n_load_from_bytes\nB" + len(inner).to_bytes(4, "little") + inner
    return b"\x80\x03}" + text("w") + call + b"\x85Rs."


def payloads(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Returns {name: (a pickle that would create the canary or odd objects, text of the error)}."""
    command = f"touch {canary}"
    objects = np.array([Calls(os.system, command)], dtype=object)
    chain = b"\x80\x04" + text("builtins") + text("getattr") + b"\x93."
    dotted = b"\x80\x04" + text("jittor") + text("os.system") + b"\x93" + text(command) + b"\x85R."
    return {
        "os.system": (pickle.dumps({"w": Calls(os.system, command)}), f"{os.name}.system"),
        "old os.system": (pickle.dumps(Calls(os.system, command), 0), f"{os.name}.system"),
        "eval": (pickle.dumps([Calls(eval, f"open({str(canary)!r}, 'w')")]), "builtins.eval"),
        "object array": (pickle.dumps({"w": objects}), "numpy.dtype of O8"),
        "getattr": (chain, "builtins.getattr"),
        "dotted": (dotted, "jittor.os.system"),
        "inst": (b"(S'" + command.encode() + b"'\nios\nsystem\n.", "INST os.system"),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "odd array": (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\nK\x00\x85C\x01b\x87R.",
            "_reconstruct of collections.OrderedDict",
        ),
        "odd codec": (
            b"\x80\x02c_codecs\nencode\n" + text("x") + text("rot13") + b"\x86R.",
            "_codecs.encode to rot13",
        ),
        "marker called": (b"\x80\x02cnumpy\nndarray\nK\x01\x85R.", "numpy.ndarray is called"),
        "text called": (
            b"\x80\x02" + text("os.system") + text(command) + b"\x85R.",
            "str is called",
        ),
        "object made": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "collections.OrderedDict"),
        "import": (b"\x80\x02c__torch__evil\nrun\n.", "__torch__evil.run"),
    }


NAMES = sorted(payloads(Path("x")))
WRAPPERS = [plain, in_zip, in_script, in_legacy, in_nested_storage]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_refused_by_name_and_nothing_runs(tmp_path, name, wrap):
    canary, path = tmp_path / "canary", tmp_path / "weights.pt"
    payload, named = payloads(canary)[name]
    path.write_bytes(wrap(payload))
    with pytest.raises(UnsafeFile) as error:
        safe_load(path)
    assert named in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not canary.exists()


def test_the_canary_works(tmp_path):
    pickle.loads(payloads(tmp_path / "canary")["os.system"][0])
    assert (tmp_path / "canary").exists()


def refused(path: Path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    with pytest.raises(BadFile, match=match) as error:
        safe_load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not a weight file"),
        (b"hello, these are no weights\n", "not a weight file|refused"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (pickle.dumps([1, 2]), "holds no dictionary"),
        (pickle.dumps({1: 2}), "holds no dictionary"),
        (pickle.dumps({"a": 1}) + b"more", "4 bytes follow"),
        (pickle.dumps({("a", 1): 2}), "key of type tuple"),
        (b"\x80\x02X\x01\x00\x00\x00kQ.", "data outside the file"),
        (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x", "not a weight file"),
        (b"\x80\x04}\x94" + b"r\xff\xff\xff\xff" + b"0h\x07.", "not a weight file"),
        (in_zip(b"", member="weights.npy"), "no one data.pkl"),
        ((1 << 20).to_bytes(8, "little") + b"{", "not a weight file"),
    ],
)
def test_not_a_weight_file(tmp_path, data, match):
    refused(tmp_path / "weights", data, match)


def test_depth(tmp_path):
    path = tmp_path / "deep"
    for deep in (b"]" * 100_000 + b"a" * 99_999, b")" + b"\x85" * 100_000):
        refused(path, b"\x80\x02}" + text("w") + deep + b"s.", "deeper than")
    refused(path, b"\x80\x02}" + text("w") + b"]q\x00h\x00as.", "deeper than")  # a list in itself
    deep_key = b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s."
    refused(path, deep_key, "key of type tuple")  # hashing it would overflow the C stack


def tensor_zip(arguments: bytes, numel: int = 4, stored: bytes = bytes(16)) -> bytes:
    """Returns a torch zip with one float32 tensor, built with these arguments."""
    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    pickled = b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage
    pickled += b"J" + numel.to_bytes(4, "little") + b"tQ" + arguments + b"\x89)tRs."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", stored)
    return buffer.getvalue()


def number(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def window(offset: int, size: int, stride: int) -> bytes:
    return number(offset) + number(size) + b"\x85" + number(stride) + b"\x85"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (window(0, 5, 1), "reaches element 4 of 4"),
        (window(1, 4, 1), "reaches element 4 of 4"),
        (window(0, 2, 4), "reaches element 4 of 4"),
        (window(0, 2, -1), "sizes"),
        (window(-1, 1, 1), "sizes"),
        (window(0, 1 << 40, 0), "out of proportion"),
        (window(0, 1 << 70, 0), "sizes"),
        (number(0) + number(2) + b"\x85" + number(1) + number(1) + b"\x86", "has strides"),
    ],
)
def test_windows_outside_their_storage(tmp_path, arguments, match):
    refused(tmp_path / "weights.pt", tensor_zip(arguments), match)


def test_a_window_inside_its_storage(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(tensor_zip(window(1, 2, 2), stored=np.arange(4, dtype="<f4").tobytes()))
    assert safe_load(path)["w"].tolist() == [1, 3]


def test_storages_of_another_size(tmp_path):
    data = tensor_zip(window(0, 2, 1), stored=bytes(8))
    refused(tmp_path / "weights.pt", data, "storage 0 has 8 bytes")


def test_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "EXPANSION_ROOM", 1 << 20)  # 256 MiB would take long to write
    count = 1 << 20
    data = tensor_zip(window(0, count, 1), numel=count, stored=bytes(4 * count))
    assert len(data) < 8192
    refused(tmp_path / "weights.pt", data, "out of proportion")


def test_zip_bomb_that_declares_less_than_it_holds(tmp_path):
    data = tensor_zip(window(0, 4, 1), stored=bytes(16 << 20))
    declared, less = (16 << 20).to_bytes(4, "little"), (16).to_bytes(4, "little")
    tracemalloc.start()
    refused(tmp_path / "weights.pt", data.replace(declared, less), "CRC")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_compressed_otherwise(tmp_path, method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    refused(tmp_path / "weights.pt", buffer.getvalue(), "compressed in a way")


def test_limits_of_steps_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_STEPS", 100)
    refused(tmp_path / "steps", b"\x80\x02](" + b"N" * 200 + b"e.", "more than 100 operations")
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 100)
    refused(tmp_path / "size", bytes(101), "more than the 100")


def test_zip_with_two_members_of_one_name(tmp_path):
    data = in_zip(pickle.dumps({}, 2)).replace(b"archive/version", b"archive/zzzzzzz")
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", pickle.dumps({"other": 1}, 2))
    refused(tmp_path / "weights.pt", buffer.getvalue(), "two members")


def test_zip_whose_members_begin_before_the_file(tmp_path):
    data = bytearray(in_zip(pickle.dumps({}, 2)))
    offset = slice(len(data) - 6, len(data) - 2)  # of the central directory, in the end record
    data[offset] = (int.from_bytes(data[offset], "little") + 100).to_bytes(4, "little")
    refused(tmp_path / "weights.pt", bytes(data), "not a weight file")


FORMATS = (".pkl", ".pt", ".pth", ".safetensors")
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_cut_off(tmp_path, name):
    data = (GOLDEN / name).read_bytes()
    for keep in (1, 7, 8, 20, 100, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 1):
        path = tmp_path / name
        path.write_bytes(data[:keep])
        with pytest.raises(ValueError) as error:
            safe_load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_give_an_error_or_load(tmp_path, name):
    draw, data = random.Random(name), (GOLDEN / name).read_bytes()
    path = tmp_path / name
    for _ in range(20):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert isinstance(safe_load(path), dict)
        except (BadFile, UnsafeFile) as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_missing_file_keeps_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        safe_load(tmp_path / "absent.pt")
