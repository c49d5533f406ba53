"""A schedule makes what changed and what follows from it, and says what it made from what."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot.stages.pipeline import Pipeline, Stage, read_parts, read_record
from weight_files import safe_load
from weight_files.hashing import sha256_of

NEEDS = {"text": (), "prompt": ("text",), "lora": (), "head": ("prompt", "lora"), "last": ("text",)}


@pytest.fixture
def made():
    return []


def schedule(folder, made, **inputs):
    """Stages whose part is the sum of their input and of the parts before them."""

    def stage(name):
        def make(parts):
            assert tuple(parts) == NEEDS[name]
            made.append(name)
            total = inputs.get(name, 1) + sum(part["total"][0] for part in parts.values())
            return {"total": np.array([total], np.float32)}

        return Stage(name, {"n": inputs.get(name, 1)}, make, NEEDS[name])

    return Pipeline("recipe", [stage(name) for name in NEEDS], folder)


def totals(parts):
    return {name: part["total"].item() for name, part in parts.items()}


def test_parts_are_kept_until_their_inputs_change(tmp_path, made, capsys):
    first = schedule(tmp_path, made).run()
    assert made == list(NEEDS) and totals(first)["head"] == 4
    capsys.readouterr()
    again = schedule(tmp_path, made).run()
    assert made == list(NEEDS) and totals(again) == totals(first)
    assert capsys.readouterr().out.count("unchanged, kept") == 5


@pytest.mark.parametrize(
    ("changed", "follows"),
    [
        ("text", ["text", "prompt", "head", "last"]),
        ("lora", ["lora", "head"]),
        ("head", ["head"]),
        ("last", ["last"]),
    ],
)
def test_a_change_makes_again_what_follows_from_it(tmp_path, made, changed, follows):
    schedule(tmp_path, made).run()
    made.clear()
    parts = schedule(tmp_path, made, **{changed: 8}).run()
    assert made == follows
    assert totals(parts) == totals(schedule(tmp_path / "new", [], **{changed: 8}).run())


def test_until_and_only_and_fresh(tmp_path, made):
    assert list(schedule(tmp_path, made).run(until="lora")) == ["text", "prompt", "lora"]
    parts = schedule(tmp_path, made).run(only="head")
    assert made == ["text", "prompt", "lora", "head"] and totals(parts)["head"] == 4
    made.clear()
    schedule(tmp_path, made).run(only="lora", fresh=True)
    assert made == ["lora"]
    schedule(tmp_path, made).run(until="prompt", fresh=True)
    assert made == ["lora", "text", "prompt"]


def test_mistaken_orders_are_refused_before_anything_runs(tmp_path, made):
    for order, message in (
        ({"until": "heads"}, "'heads' is no stage; there are text, prompt, lora, head, last"),
        ({"only": "heads"}, "'heads' is no stage"),
        ({"until": "head", "only": "lora"}, "exclude each other"),
        ({"only": "prompt"}, "prompt needs .*text.pkl, which is missing or was made from other"),
    ):
        with pytest.raises(ValueError, match=message):
            schedule(tmp_path, made).run(**order)
    assert made == []
    schedule(tmp_path, made).run(until="prompt")
    with pytest.raises(ValueError, match="prompt needs .*text.pkl.* run without --only"):
        schedule(tmp_path, made, text=2).run(only="prompt")
    assert made == ["text", "prompt"]


def test_the_same_inputs_give_the_same_bytes(tmp_path, made):
    for folder in "ab":
        schedule(tmp_path / folder, made).run()
    for name in NEEDS:
        files = [(tmp_path / folder / f"{name}.pkl").read_bytes() for folder in "ab"]
        assert files[0] == files[1]


def test_a_key_follows_from_the_inputs_and_not_from_their_order():
    def key(inputs):
        return Pipeline("recipe", [Stage("text", inputs, dict)], Path()).key("text")

    assert key({"a": 1, "b": {"c": 2, "d": 3}}) == key({"b": {"d": 3, "c": 2}, "a": 1})
    assert key({"a": 1}) != key({"a": 2}) != key({"b": 2})
    with pytest.raises(TypeError, match="not JSON serializable"):
        key({"array": np.zeros(1)})


def test_a_stage_that_fails_leaves_the_old_parts(tmp_path, made):
    schedule(tmp_path, made).run()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = schedule(tmp_path, made, head=5)
    broken.stages["head"] = replace(broken.stages["head"], make=lambda parts: {"total": 1 / 0})
    with pytest.raises(ZeroDivisionError):
        broken.run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_the_record_says_what_was_made_from_what(tmp_path, made):
    schedule(tmp_path, made).run(until="lora")
    schedule(tmp_path, made).run(only="last")
    schedule(tmp_path, made).run()
    entries = json.loads((tmp_path / "schedule.json").read_text())
    assert [entry["stage"] for entry in entries] == list(NEEDS)  # in the schedule's order
    by_stage = read_record(tmp_path)
    for name, entry in by_stage.items():
        meta = safe_load(tmp_path / f"{name}.pkl")["meta"]
        assert {field: entry[field] for field in meta} == meta
        assert entry["key"] == schedule(tmp_path, made).key(name)
        assert entry["needs"] == {need: by_stage[need]["key"] for need in NEEDS[name]}
        assert entry["inputs"] == {"n": 1} and entry["numbers"] == 1 and entry["seconds"] >= 0
        assert entry["output"] == f"{name}.pkl"
        assert entry["sha256"] == sha256_of(tmp_path / f"{name}.pkl")
    schedule(tmp_path, made, last=3).run()
    assert read_record(tmp_path)["last"]["inputs"] == {"n": 3}
    assert read_record(tmp_path / "none") == {}


def test_a_part_that_was_not_noted_is_noted_without_its_seconds(tmp_path, made):
    schedule(tmp_path, made).run()
    before = read_record(tmp_path)
    (tmp_path / "schedule.json").unlink()  # as a kill between a part and its note
    schedule(tmp_path, made).run()
    assert made == list(NEEDS)
    unknown = {name: entry | {"seconds": None} for name, entry in before.items()}
    assert read_record(tmp_path) == unknown


def test_parts_are_read_by_their_stage(tmp_path, made):
    schedule(tmp_path, made).run()
    assert totals(read_parts(tmp_path, ["text", "head"])) == {"text": 1, "head": 4}
    (tmp_path / "prompt.pkl").write_bytes((tmp_path / "head.pkl").read_bytes())
    with pytest.raises(ValueError, match="prompt.pkl: holds head, but 'prompt' is needed"):
        read_parts(tmp_path, ["text", "prompt"])
    (tmp_path / "prompt.pkl").unlink()
    with pytest.raises(ValueError, match="prompt.pkl is missing: run `bash train.sh`"):
        read_parts(tmp_path, ["text", "prompt"])


def test_parts_that_do_not_belong_together_are_refused(tmp_path, made):
    schedule(tmp_path, made).run()
    schedule(tmp_path, made, lora=2).run(until="lora")  # the head was made with the lora before
    assert list(read_parts(tmp_path, ["text", "prompt", "lora"])) == ["text", "prompt", "lora"]
    with pytest.raises(ValueError, match="head.pkl was made with another lora.pkl than"):
        read_parts(tmp_path, ["text", "prompt", "lora", "head"])
