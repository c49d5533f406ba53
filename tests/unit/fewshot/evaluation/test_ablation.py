"""The table of what each part brought, on picks that were worked by hand."""

import numpy as np
import pytest

from data.label_space import LabelSpace
from fewshot.evaluation.ablation import ablation, end_to_end, groups
from fewshot.inference.ensemble import STAGE_OF, SUBMITTED

NAMES = ("Animal_cat", "Animal_dog", "Food_apple_pie", "Food_soup")
TRUTH = np.array([0, 0, 1, 2, 2, 3])
BEST = [0, 3, 2, 2, 0, 2]  # the class of each image's largest score,
SECOND = [1, 0, 1, 0, 2, 3]  # and of the next
PARTS = {"text": {}, "prompt": {"trainable": 1000}, "head": {"trainable": 7}}


CLASSES = LabelSpace(NAMES, (0, 1, 2), has_domains=True)


@pytest.fixture
def picks():
    """Class 3 is new; routing is by zero-shot, so that its rows are zero-shot's and the truth's."""
    values = np.zeros((6, 4))
    values[range(6), SECOND] = 1
    values[range(6), BEST] = 2
    right = np.eye(4)[TRUTH]
    scores = {"zero-shot": values, "+ LP++": right, SUBMITTED: right}
    scores |= {"soft routing": right, "hard routing": values, "no routing": values}
    return {way: CLASSES.best_of_groups(found) for way, found in scores.items()}


def test_columns_follow_from_the_classes():
    base, every = [0, 1, 2], [0, 1, 2, 3]
    assert list(groups(CLASSES).items()) == [
        ("base", (base, "base")),
        ("Animal", ([0, 1], "base")),
        ("Food", ([2], "base")),
        ("new", ([3], "new")),
        ("all", (every, "all")),
    ]
    assert list(groups(LabelSpace(NAMES, (0, 1, 2)))) == ["base", "new", "all"]
    alone = LabelSpace.all_base(NAMES[:2], has_domains=True)
    assert list(groups(alone)) == ["base", "all"]


def test_accuracies_are_those_worked_by_hand(picks):
    row = ablation(picks, TRUTH, CLASSES, PARTS, {})["zero-shot"]
    # image 1 is lost to the new class and image 5 to a base class in "all" only
    expected = {"base": 3 / 5, "Animal": 2 / 3, "Food": 1 / 2, "new": 1, "all": 2 / 6}
    assert row == pytest.approx(expected | {"trained": 0})
    assert ablation(picks, TRUTH, CLASSES, PARTS, {})[SUBMITTED]["all"] == 1


def test_numbers_and_seconds_are_of_the_own_stage_or_all(picks):
    seconds = {"text": {"seconds": 0.4}, "prompt": {"seconds": 2.3}, "head": {"seconds": 7.6}}

    def cells(name, record):
        rows = ablation(picks, TRUTH, CLASSES, PARTS, record)
        return {way: row.get(name) for way, row in rows.items()}

    assert cells("trained", seconds) == {"zero-shot": 0, "+ LP++": 7, SUBMITTED: 1007}
    assert cells("seconds", seconds) == {"zero-shot": 0, "+ LP++": 8, SUBMITTED: 10}
    unknown = seconds | {"prompt": {"seconds": None}}  # it was stopped before it was noted
    assert cells("seconds", unknown) == {"zero-shot": 0, "+ LP++": 8, SUBMITTED: None}
    assert cells("seconds", {}) == {"zero-shot": None, "+ LP++": None, SUBMITTED: None}


def test_end_to_end_by_hand(picks):
    rows = end_to_end(picks, TRUTH, CLASSES)
    assert list(rows) == ["zero-shot", "soft routing", "hard routing", "no routing", SUBMITTED]
    assert rows["zero-shot"] == pytest.approx(
        {"base": 2 / 5, "new": 0, "harmonic": 0, "all": 1 / 3}
    )
    assert set(rows[SUBMITTED].values()) == {1.0}
    assert end_to_end(picks, TRUTH, LabelSpace.all_base(NAMES)) == {}


def test_each_way_has_its_stage(picks):
    ways = dict.fromkeys(STAGE_OF, picks["zero-shot"])
    parts = {stage: {"trainable": n} for n, stage in enumerate(STAGE_OF.values())}
    rows = ablation(ways, TRUTH, CLASSES, parts, {})
    assert [row["trained"] for row in rows.values()] == list(range(len(STAGE_OF)))
