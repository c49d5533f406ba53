"""A session turns mistakes into one line, and locks the folders of the recipe that it runs."""

import types
from pathlib import Path

import pytest

from engine.session import Session, exit_on_error


def test_a_mistake_ends_with_one_line():
    with pytest.raises(SystemExit) as ended, exit_on_error("train.py x"):
        raise ValueError("a.txt:3: no label")
    assert ended.value.code == "train.py x: a.txt:3: no label"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(KeyError), exit_on_error("train.py x"):
        raise KeyError("bug")


def test_a_recipe_runs_alone_in_its_folders(tmp_path):
    folders = []
    config = types.SimpleNamespace(lock_files=(tmp_path / "out/.lock",))
    recipe = types.SimpleNamespace(run=lambda config: folders.append(list(tmp_path.rglob("*"))))
    Session("train.py x").run(recipe, config)
    assert folders == [[tmp_path / "out", Path(tmp_path / "out/.lock")]]
    assert not list((tmp_path / "out").iterdir())
