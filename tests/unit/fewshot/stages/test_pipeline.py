"""A pipeline makes what changed and what follows from it, and records what it made from what."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from engine import checkpoint
from fewshot.stages.parts import Part, read_part
from fewshot.stages.pipeline import Pipeline, Stage
from fewshot.stages.record import RECORD, read_record
from weight_files import safe_load
from weight_files.hashing import sha256_of

NEEDS = {"text": (), "prompt": ("text",), "lora": (), "head": ("prompt", "lora"), "last": ("text",)}


@pytest.fixture
def made():
    return []


@dataclass(frozen=True, eq=False, kw_only=True)
class Total(Part):
    total: np.ndarray


def pipeline(folder, made, **inputs):
    """Stages whose part is the sum of their input and of the parts before them."""

    def stage(name):
        def make(**parts):
            assert tuple(parts) == NEEDS[name]
            made.append(name)
            total = inputs.get(name, 1) + sum(part.total[0] for part in parts.values())
            return Total(total=np.array([total], np.float32))

        return Stage(name, Total, {"n": inputs.get(name, 1)}, make, NEEDS[name])

    return Pipeline("recipe", [stage(name) for name in NEEDS], folder, folder / "runs")


def totals(parts):
    return {name: part.total.item() for name, part in parts.items()}


def test_parts_are_kept_until_their_inputs_change(tmp_path, made, capsys):
    first = pipeline(tmp_path, made).run()
    assert made == list(NEEDS) and totals(first)["head"] == 4
    capsys.readouterr()
    again = pipeline(tmp_path, made).run()
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
    pipeline(tmp_path, made).run()
    made.clear()
    parts = pipeline(tmp_path, made, **{changed: 8}).run()
    assert made == follows
    assert totals(parts) == totals(pipeline(tmp_path / "new", [], **{changed: 8}).run())


def test_until_and_only_and_fresh(tmp_path, made):
    assert list(pipeline(tmp_path, made).run(until="lora")) == ["text", "prompt", "lora"]
    parts = pipeline(tmp_path, made).run(only="head")
    assert made == ["text", "prompt", "lora", "head"] and totals(parts)["head"] == 4
    made.clear()
    pipeline(tmp_path, made).run(only="lora", fresh=True)
    assert made == ["lora"]
    pipeline(tmp_path, made).run(until="prompt", fresh=True)
    assert made == ["lora", "text", "prompt"]


def test_mistaken_orders_are_refused_before_anything_runs(tmp_path, made):
    for order, message in (
        ({"until": "heads"}, "'heads' is no stage; there are text, prompt, lora, head, last"),
        ({"only": "heads"}, "'heads' is no stage"),
        ({"until": "head", "only": "lora"}, "exclude each other"),
        ({"only": "prompt"}, "prompt needs .*text.pkl, which is missing or was made from other"),
    ):
        with pytest.raises(ValueError, match=message):
            pipeline(tmp_path, made).run(**order)
    assert made == []
    pipeline(tmp_path, made).run(until="prompt")
    with pytest.raises(ValueError, match="prompt needs .*text.pkl.* run without --only"):
        pipeline(tmp_path, made, text=2).run(only="prompt")
    assert made == ["text", "prompt"]


def test_the_same_inputs_give_the_same_bytes(tmp_path, made):
    for folder in "ab":
        pipeline(tmp_path / folder, made).run()
    for name in NEEDS:
        files = [(tmp_path / folder / f"{name}.pkl").read_bytes() for folder in "ab"]
        assert files[0] == files[1]


def test_a_key_follows_from_the_inputs_and_not_from_their_order():
    def key(inputs):
        return Pipeline("recipe", [Stage("text", Total, inputs, Total)], Path(), Path()).key("text")

    assert key({"a": 1, "b": {"c": 2, "d": 3}}) == key({"b": {"d": 3, "c": 2}, "a": 1})
    assert key({"a": 1}) != key({"a": 2}) != key({"b": 2})
    with pytest.raises(TypeError, match="not JSON serializable"):
        key({"array": np.zeros(1)})


def test_a_stage_that_fails_leaves_the_old_parts(tmp_path, made):
    pipeline(tmp_path, made).run()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = pipeline(tmp_path, made, head=5)
    broken.stages["head"] = replace(broken.stages["head"], make=lambda **parts: Total(total=1 / 0))
    with pytest.raises(ZeroDivisionError):
        broken.run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_the_record_says_what_was_made_from_what(tmp_path, made):
    pipeline(tmp_path, made).run(until="lora")
    pipeline(tmp_path, made).run(only="last")
    pipeline(tmp_path, made).run()
    entries = json.loads((tmp_path / RECORD).read_text())
    assert [entry["stage"] for entry in entries] == list(NEEDS)  # in the pipeline's order
    by_stage = read_record(tmp_path)
    for name, entry in by_stage.items():
        meta = safe_load(tmp_path / f"{name}.pkl")["meta"]
        assert {field: getattr(entry, field) for field in meta} == meta
        assert entry.key == pipeline(tmp_path, made).key(name)
        assert entry.needs == {need: by_stage[need].key for need in NEEDS[name]}
        assert entry.inputs == {"n": 1} and entry.numbers == 1 and entry.seconds >= 0
        assert entry.output == f"{name}.pkl"
        assert entry.sha256 == sha256_of(tmp_path / f"{name}.pkl")
    pipeline(tmp_path, made, last=3).run()
    assert read_record(tmp_path)["last"].inputs == {"n": 3}
    assert read_record(tmp_path / "none") == {}


def test_a_part_that_was_not_noted_is_noted_without_its_seconds(tmp_path, made):
    pipeline(tmp_path, made).run()
    before = read_record(tmp_path)
    (tmp_path / RECORD).unlink()  # as a kill between a part and its record
    pipeline(tmp_path, made).run()
    assert made == list(NEEDS)
    unknown = {name: replace(entry, seconds=None) for name, entry in before.items()}
    assert read_record(tmp_path) == unknown


def test_a_record_by_its_old_name_is_read_and_then_superseded(tmp_path, made):
    pipeline(tmp_path, made).run()
    before = read_record(tmp_path)
    (tmp_path / RECORD).rename(tmp_path / "schedule.json")
    assert read_record(tmp_path) == before
    made.clear()
    pipeline(tmp_path, made, last=2).run()
    assert made == ["last"]
    assert read_record(tmp_path) == before | {"last": read_record(tmp_path)["last"]}
    assert (tmp_path / RECORD).is_file()


@pytest.mark.parametrize("content", ["[{", "{}", '[{"stage": "text"}]'])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ValueError, match=RECORD):
        read_record(tmp_path)


def test_a_part_of_another_version_is_made_again(tmp_path, made):
    pipeline(tmp_path, made).run()
    path = tmp_path / "last.pkl"
    contents = safe_load(path)
    checkpoint.save(path, {"meta": {"key": contents["meta"]["key"]}, "total": np.ones(1)})
    made.clear()
    parts = pipeline(tmp_path, made).run()
    assert made == ["last"] and totals(parts)["last"] == 2


def test_a_stage_that_trains_gets_its_run(tmp_path):
    def make(run):
        checkpoints.append(run.checkpoint.exists())
        run.checkpoint.write_bytes(b"half an epoch")
        return Total(total=np.ones(1))

    def run_pipeline(n, **order):
        stage = Stage("lora", Total, {"n": n}, make, has_run=True)
        Pipeline("recipe", [stage], tmp_path / "parts", tmp_path / "runs").run(**order)

    checkpoints = []
    run_pipeline(1)
    run_pipeline(2)
    run_pipeline(2, fresh=True)  # drops what a stopped run left
    assert checkpoints == [False, True, False]
    config = json.loads((tmp_path / "runs/lora/config.json").read_text())["config"]
    assert (
        config["stage"] == "lora" and config["key"] == read_record(tmp_path / "parts")["lora"].key
    )


def test_a_part_is_read_with_its_origin(tmp_path, made):
    pipeline(tmp_path, made).run()
    part, origin = read_part(tmp_path / "head.pkl", "head", Total)
    assert part.total == 4 and origin.needs == {
        need: read_record(tmp_path)[need].key for need in ("prompt", "lora")
    }
    with pytest.raises(ValueError, match="head.pkl: holds the stage 'head', but 'prompt'"):
        read_part(tmp_path / "head.pkl", "prompt", Total)
