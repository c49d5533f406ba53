"""Trained parts are written as plain data, read strictly, and belong together."""

import shutil
from dataclasses import fields, replace

import numpy as np
import pytest

from data.views import Crops, Views
from engine import checkpoint
from engine.plain_data import from_plain, to_plain
from fewshot.stages.parts import PART_TYPES, GdaPart, HeadPart, TextPart, part_path, read_parts
from tests.helpers.simple_parts import make_parts, text_part
from weight_files import safe_load

PARTS = make_parts(text_part(np.eye(4, 3, dtype=np.float32), [0, 2]), np.ones((2, 3)))


def written(tmp_path, part):
    checkpoint.save(tmp_path / "part.pkl", to_plain(part))
    return safe_load(tmp_path / "part.pkl")


@pytest.mark.parametrize("stage", [stage for stage in PART_TYPES if stage != "auxiliary"])
def test_a_part_comes_back_as_it_was(tmp_path, stage):
    before = PARTS.by_stage[stage]
    after = from_plain(type(before), written(tmp_path, before), "part.pkl")
    for field in fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        np.testing.assert_equal(one, other)


def test_what_test_time_needs_is_a_field(tmp_path):
    head = replace(PARTS.head, views=Views(10, Crops((0.25, 0.5), flip=False), 7))
    assert from_plain(HeadPart, written(tmp_path, head), "part.pkl").views == head.views
    text = from_plain(TextPart, written(tmp_path, PARTS.text), "part.pkl")
    assert text.label_space == PARTS.text.label_space
    assert text.base_features.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert text.new_features.tolist() == [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain.pop("weight"), "gda.pkl: lacks weight"),
        (lambda plain: plain.update(wait=1.0), "gda.pkl: has unknown fields wait"),
        (lambda plain: plain.update(weight="1"), "gda.pkl: weight is '1'"),
        (lambda plain: plain.update(state=[1]), r"gda.pkl: state is .1."),
    ],
)
def test_other_fields_are_refused_by_name(change, message):
    plain = to_plain(GdaPart(weight=0.5, state={}))
    change(plain)
    with pytest.raises(ValueError, match=message):
        from_plain(GdaPart, plain, "gda.pkl")
    with pytest.raises(ValueError, match="gda.pkl: holds no GdaPart"):
        from_plain(GdaPart, None, "gda.pkl")


@pytest.fixture
def folder(job, tmp_path):
    shutil.copytree(job / "parts", tmp_path / "parts")
    return tmp_path / "parts"


def test_a_missing_part_is_named_but_the_auxiliary_one_may_be(folder):
    part_path(folder, "auxiliary").unlink()
    parts = read_parts(folder)
    assert parts.auxiliary is None and "auxiliary" not in parts.by_stage
    assert set(parts.hashes) == {f"{stage}.pkl" for stage in parts.by_stage}
    part_path(folder, "prompt").unlink()
    with pytest.raises(ValueError, match="prompt.pkl is missing: run `bash train.sh`"):
        read_parts(folder)


def test_a_part_of_another_stage_is_refused(folder):
    shutil.copy(part_path(folder, "head"), part_path(folder, "prompt"))
    with pytest.raises(ValueError, match="prompt.pkl: holds the stage 'head'"):
        read_parts(folder)


def test_parts_that_do_not_belong_together_are_refused(folder):
    contents = safe_load(part_path(folder, "lora"))
    meta = contents["meta"] | {"key": "another"}
    checkpoint.save(part_path(folder, "lora"), contents | {"meta": meta})
    with pytest.raises(ValueError, match="head.pkl was made with another lora.pkl than"):
        read_parts(folder)
