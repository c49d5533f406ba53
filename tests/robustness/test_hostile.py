"""Strangers' weight files: refused in one clear line, and nothing else happens."""

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

MOST_MB = 2048  # of memory above what the process had
MOST_S = 20  # of the processor


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `tests/robustness/hostile_run.py` prints, which opens every case in a process of its
    own."""
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.robustness.hostile_run", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def faults(result: dict, says: str | None) -> list[str]:
    """What is wrong with how a case was met; it must be refused where `says` says with what."""
    text = result.get("text", "")
    wanted = "read" if says is None else "refused"
    wrong = [] if result["outcome"] == wanted else [f"{result['outcome']} instead of {wanted}"]
    if says is not None:
        wrong += [] if re.search(says, text) else [f"does not say {says!r}"]
        wrong += [] if result["path"] in text else ["does not name the file"]
        wrong += [] if text.isprintable() and len(text) < 1100 else ["is not one short line"]
    wrong += [f"changed {result['changed']}"] if result["changed"] else []
    wrong += [] if result["status"] == 0 else [f"ended with status {result['status']}"]
    wrong += [f"took {result['grown']} MB"] if result.get("grown", 0) > MOST_MB else []
    wrong += [f"took {result['seconds']} s"] if result.get("seconds", 0) > MOST_S else []
    return wrong


def all_faults(results: dict, expected: dict[str, str | None]) -> list[str]:
    assert results.keys() == expected.keys()
    met = {name: faults(result, expected[name]) for name, result in results.items()}
    return [f"{name}: {wrong}, {results[name].get('text')}" for name, wrong in met.items() if wrong]


def test_weight_files(results):
    expected = {name: says for name, (_, says) in hostile_weights.make().items()}
    assert len(expected) >= 60
    assert all_faults(results, expected) == []


def test_the_weight_files_would_run(tmp_path, monkeypatch):
    """The canary does sing where Python's own unpickler opens them."""
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
