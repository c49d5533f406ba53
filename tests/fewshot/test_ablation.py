"""The table of what each part brought, on scores that were worked by hand."""

import json

import numpy as np
import pytest

from fewshot.ablation import STAGE_OF, ablation, groups, write_scores
from fewshot.classifier import SUBMITTED
from fewshot.data import Tree

NAMES = ("Animal_cat", "Animal_dog", "Food_apple_pie", "Food_soup")
TRUTH = np.array([0, 0, 1, 2, 2, 3])
BEST = [0, 3, 2, 2, 0, 2]  # the class of each image's largest score,
SECOND = [1, 0, 1, 0, 2, 3]  # and of the next
PARTS = {"text": {}, "prompt": {"trainable": 1000}, "head": {"trainable": 7}}


def tree(tmp_path, kind="contest", names=NAMES, base=(0, 1, 2)):
    new = tuple(k for k in range(len(names)) if k not in base)
    return Tree(tmp_path, kind, False, names, (), base, new)


@pytest.fixture
def scores():
    values = np.zeros((6, 4))
    values[range(6), SECOND] = 1
    values[range(6), BEST] = 2
    return {"zero-shot": values, "+ LP++": np.eye(4)[TRUTH], SUBMITTED: np.eye(4)[TRUTH]}


def test_columns_follow_from_the_classes(tmp_path):
    base, every = [0, 1, 2], [0, 1, 2, 3]
    assert list(groups(tree(tmp_path)).items()) == [
        ("base", (base, base)),
        ("Animal", ([0, 1], base)),
        ("Food", ([2], base)),
        ("new", ([3], [3])),
        ("all", (every, every)),
    ]
    assert list(groups(tree(tmp_path, kind="folders"))) == ["base", "new", "all"]
    alone = tree(tmp_path, names=NAMES[:2], base=(0, 1))
    assert list(groups(alone)) == ["base", "all"]


def test_accuracies_are_those_worked_by_hand(tmp_path, scores):
    row = ablation(scores, TRUTH, tree(tmp_path), PARTS, {})["zero-shot"]
    # image 1 is lost to the new class and image 5 to a base class in "all" only
    expected = {"base": 3 / 5, "Animal": 2 / 3, "Food": 1 / 2, "new": 1, "all": 2 / 6}
    assert row == pytest.approx(expected | {"trained": 0})
    assert ablation(scores, TRUTH, tree(tmp_path), PARTS, {})[SUBMITTED]["all"] == 1


def test_numbers_and_seconds_are_of_the_own_stage_or_all(tmp_path, scores):
    seconds = {"text": {"seconds": 0.4}, "prompt": {"seconds": 2.3}, "head": {"seconds": 7.6}}

    def cells(name, record):
        rows = ablation(scores, TRUTH, tree(tmp_path), PARTS, record)
        return {way: row.get(name) for way, row in rows.items()}

    assert cells("trained", seconds) == {"zero-shot": 0, "+ LP++": 7, SUBMITTED: 1007}
    assert cells("seconds", seconds) == {"zero-shot": 0, "+ LP++": 8, SUBMITTED: 10}
    unknown = seconds | {"prompt": {"seconds": None}}  # it was stopped before it was noted
    assert cells("seconds", unknown) == {"zero-shot": 0, "+ LP++": 8, SUBMITTED: None}
    assert cells("seconds", {}) == {"zero-shot": None, "+ LP++": None, SUBMITTED: None}


def test_each_way_has_its_stage(tmp_path, scores):
    ways = dict.fromkeys(STAGE_OF, scores["zero-shot"])
    parts = {stage: {"trainable": n} for n, stage in enumerate(STAGE_OF.values())}
    rows = ablation(ways, TRUTH, tree(tmp_path), parts, {})
    assert [row["trained"] for row in rows.values()] == list(range(len(STAGE_OF)))


def test_the_scores_are_written(tmp_path, scores):
    rows = ablation(scores, TRUTH, tree(tmp_path), PARTS, {"text": {"seconds": 1.0}})
    write_scores(tmp_path / "scores.json", rows, len(TRUTH))
    assert json.loads((tmp_path / "scores.json").read_text()) == {"images": 6, "rows": rows}
