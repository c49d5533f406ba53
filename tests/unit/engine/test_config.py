"""Configurations: read from the command line, made plain and back, and old spellings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from engine.config import OLD_SPELLINGS, current_fields, parse, restore_config
from engine.plain_data import to_plain


@dataclass(frozen=True)
class Config:
    """What this recipe does."""

    data: Path = Path("Dataset")
    """folder of the images"""
    epochs: int = 3
    """passes over the data"""
    fresh: bool = False
    """start again"""


def test_fields_are_read_with_their_types():
    config = parse(Config, ["--epochs", "5", "--data", "a/b", "--fresh", "True"], "train.py x")
    assert config == Config(Path("a/b"), 5, True)
    assert to_plain(config) == {"data": "a/b", "epochs": 5, "fresh": True}


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--epoch", "5"], "epoch"),
        (["--epochs", "many"], "many"),
        (["--fresh", "perhaps"], "perhaps"),
    ],
)
def test_unknown_names_and_wrong_types_are_errors(arguments, fragment, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Config, arguments, "train.py x")
    assert ended.value.code == 2
    assert fragment in capsys.readouterr().err


def test_help_shows_every_field_with_its_line(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Config, ["--help"], "train.py x")
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for text in (
        "What this recipe does",
        "--data",
        "folder of the images",
        "passes over",
        "(default: 3)",
    ):
        assert text in shown


@dataclass(frozen=True)
class Flat:
    """A configuration as a manifest holds it."""

    folder: Path = Path("x")
    perhaps: Path | None = None
    range: tuple[float, float] | None = None
    kind: Literal["a", "b"] = "a"
    count: int = 1
    loud: bool = False


@pytest.mark.parametrize("value", [Flat(), Flat(Path("y/z"), Path("q"), (0.5, 1.0), "b", 3, True)])
def test_a_configuration_comes_back_from_plain_data(value):
    assert restore_config(Flat, json.loads(json.dumps(to_plain(value))), "x") == value


@pytest.mark.parametrize(
    "change",
    [{"kind": "c"}, {"count": "2"}, {"count": True}, {"loud": 1}, {"range": 3}, {"folder": None}],
)
def test_values_of_another_kind_are_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is .*, which does not fit"):
        restore_config(Flat, to_plain(Flat()) | change, "x")


def test_fields_of_another_version_are_refused():
    fields = to_plain(Flat())
    with pytest.raises(ValueError, match="has unknown fields more"):
        restore_config(Flat, fields | {"more": 1}, "x")
    del fields["loud"]
    with pytest.raises(ValueError, match="lacks loud"):
        restore_config(Flat, fields, "x")


@dataclass(frozen=True)
class Renamed:
    """A configuration whose fields had different names before."""

    images: str = "TestSetB"
    prefetch: int = 32
    grad_accum: int = 1
    ood: Literal["gp", "mcm"] = "gp"
    precision: Literal["fp32", "bf16"] = "fp32"
    kernels: Literal["native", "jittor"] = "native"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--split", "photos", "--batch-size=8"], Renamed(images="photos", prefetch=8)),
        (["--precision", "plain", "--ood", "fitted"], Renamed(kernels="jittor")),
        (
            ["--precision=plain", "--ood=mcm", "--pieces", "4"],
            Renamed("TestSetB", 32, 4, "mcm", kernels="jittor"),
        ),
    ],
)
def test_old_spellings_work_with_a_notice(arguments, expected, capsys):
    assert parse(Renamed, arguments, "test.py") == expected
    assert capsys.readouterr().err.count("test.py: --") == 2


def test_current_spellings_bring_no_notice(capsys):
    parse(Renamed, ["--images", "split", "--precision", "fp32"], "test.py")
    assert capsys.readouterr().err == ""


def test_an_old_manifests_configuration_is_read_with_a_notice(capsys):
    old = {"split": "photos", "batch_size": 8, "pieces": 2, "ood": "fitted", "precision": "plain"}
    expected = Renamed("photos", 8, 2, "gp", "fp32", "jittor")
    assert restore_config(Renamed, old, "test.py") == expected
    assert capsys.readouterr().err.count("\n") == 1
    assert current_fields(to_plain(expected), "test.py") == to_plain(expected)


def test_no_new_spelling_is_an_old_one():
    """Else it would be replaced in turn."""
    for spellings in OLD_SPELLINGS.values():
        assert not set(spellings) & set(spellings.values())
