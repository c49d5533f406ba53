"""Hostile weight files are refused in one clear line, and nothing else happens."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data.lists import DataError, read_captions, read_classes, read_rows
from fewshot.text.prompt_files import read_json
from runtime.paths import ROOT
from tests.robustness import hostile_weights
from weight_files import safe_load
from weight_files.reader import BadFile

MAX_MB = 2048  # memory above what the process had
MAX_S = 20  # processor time


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The outcomes of all files, each opened in a process of its own."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.robustness.open_hostile", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def faults(result: dict, says: str) -> list[str]:
    """Returns what is wrong with a case; it must be refused with a message that matches `says`."""
    text = result.get("text", "")
    checks = {
        f"{result['outcome']} instead of refused": result["outcome"] == "refused",
        f"does not say {says!r}": re.search(says, text),
        "does not name the file": result["path"] in text,
        "is not one short line": text.isprintable() and len(text) < 1100,
        f"changed {result['changed']}": not result["changed"],
        f"ended with status {result['status']}": result["status"] == 0,
        f"took {result.get('grown')} MB": result.get("grown", 0) <= MAX_MB,
        f"took {result.get('seconds')} s": result.get("seconds", 0) <= MAX_S,
    }
    return [fault for fault, passed in checks.items() if not passed]


def test_weight_files(results):
    expected = {name: says for name, (_, says) in hostile_weights.make().items()}
    assert len(expected) >= 60 and results.keys() == expected.keys()
    for name, result in results.items():
        assert not faults(result, expected[name]), f"{name}: {result.get('text')}"


def test_the_weight_files_would_run(tmp_path, monkeypatch):
    """Python's own unpickler would run their code."""
    monkeypatch.chdir(tmp_path)
    for name in ("reduce", "reduce, text", "inst", "obj", "object array"):
        content, _ = hostile_weights.calls()[name]
        pickle.loads(content)
        assert os.listdir(tmp_path) == ["canary"], name
        (tmp_path / "canary").unlink()


def test_the_good_files_beside_them_are_read(tmp_path):
    path = tmp_path / "good.pt"
    path.write_bytes(hostile_weights.torch_zip())
    assert safe_load(path)["w"].tolist() == [0] * 4


def test_pipes_in_the_place_of_files(tmp_path):
    for name in ("weights.pt", "list.txt", "list.jsonl", "texts.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(BadFile, match="weights.pt is a pipe"):
        safe_load(tmp_path / "weights.pt")
    for reader in (read_rows, read_classes, read_captions):
        for name in ("list.txt", "list.jsonl"):
            with pytest.raises(DataError, match=f"{name}: is a pipe or a device"):
                reader(tmp_path / name)
    with pytest.raises(DataError, match="texts.json: is a pipe or a device"):
        read_json(tmp_path / "texts.json")
    with pytest.raises(DataError, match="is a pipe or a device"):
        read_json(Path("/dev/zero"))
