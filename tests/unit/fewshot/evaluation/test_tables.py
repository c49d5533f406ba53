"""The tables of accuracies and scores.json, on predictions worked by hand."""

import json

import numpy as np
import pytest

from data.label_space import LabelSpace
from fewshot.evaluation.tables import (
    ablation,
    columns_of,
    end_to_end,
    format_scores,
    make_scores,
    write_scores,
)
from fewshot.inference.classifiers import ENSEMBLE, ROUTED, SINGLE
from fewshot.inference.predictions import Predictions
from fewshot.stages.parts import Part
from fewshot.stages.record import StageRecord

NAMES = ("Animal_cat", "Animal_dog", "Food_apple_pie", "Food_soup")
TRUTH = np.array([0, 0, 1, 2, 2, 3])
BEST = [0, 3, 2, 2, 0, 2]  # the class of each image's largest score,
SECOND = [1, 0, 1, 0, 2, 3]  # and of the next
PARTS = {"text": Part(), "prompt": Part(trained_count=1000), "head": Part(trained_count=7)}
CLASSES = LabelSpace(NAMES, (0, 1, 2), has_domains=True)


@pytest.fixture
def top1_among():
    """Class 3 is new; routing is by zero-shot, so that its rows are zero-shot's and the truth's."""
    values = np.zeros((6, 4))
    values[range(6), SECOND] = 1
    values[range(6), BEST] = 2
    right = np.eye(4)[TRUTH]
    scores = {"zero_shot": values, "lpplusplus": right, ENSEMBLE: right}
    scores |= {form.id: right if form.routing == "soft" else values for form in ROUTED}
    return {id: CLASSES.best_of_groups(found) for id, found in scores.items()}


def record_of(**seconds):
    return {
        stage: StageRecord("recipe", stage, "", {}, {}, "", "", 0, value)
        for stage, value in seconds.items()
    }


def test_columns_follow_from_the_classes():
    base, every = [0, 1, 2], [0, 1, 2, 3]
    assert list(columns_of(CLASSES).items()) == [
        ("base", (base, "base")),
        ("Animal", ([0, 1], "base")),
        ("Food", ([2], "base")),
        ("new", ([3], "new")),
        ("all", (every, "all")),
    ]
    assert list(columns_of(LabelSpace(NAMES, (0, 1, 2)))) == ["base", "new", "all"]
    alone = LabelSpace.all_base(NAMES[:2], has_domains=True)
    assert list(columns_of(alone)) == ["base", "all"]


def test_accuracies_are_those_worked_by_hand(top1_among):
    row = ablation(top1_among, TRUTH, CLASSES, PARTS, {})["zero_shot"]
    # image 1 is lost to the new class and image 5 to a base class in "all" only
    expected = {"base": 3 / 5, "Animal": 2 / 3, "Food": 1 / 2, "new": 1, "all": 2 / 6}
    assert row == pytest.approx(expected | {"trained": 0})
    assert ablation(top1_among, TRUTH, CLASSES, PARTS, {})[ENSEMBLE]["all"] == 1


def test_numbers_and_seconds_are_of_the_own_stage_or_all(top1_among):
    seconds = record_of(text=0.4, prompt=2.3, head=7.6)

    def cells(name, record):
        rows = ablation(top1_among, TRUTH, CLASSES, PARTS, record)
        return {id: row.get(name) for id, row in rows.items()}

    assert cells("trained", seconds) == {"zero_shot": 0, "lpplusplus": 7, ENSEMBLE: 1007}
    assert cells("seconds", seconds) == {"zero_shot": 0, "lpplusplus": 8, ENSEMBLE: 10}
    unknown = seconds | record_of(prompt=None)  # it was stopped before it was noted
    assert cells("seconds", unknown) == {"zero_shot": 0, "lpplusplus": 8, ENSEMBLE: None}
    assert cells("seconds", {}) == {"zero_shot": None, "lpplusplus": None, ENSEMBLE: None}


def test_end_to_end_by_hand(top1_among):
    rows = end_to_end(top1_among, TRUTH, CLASSES)
    assert list(rows) == ["zero_shot", *(form.id for form in ROUTED), ENSEMBLE]
    assert rows["zero_shot"] == pytest.approx(
        {"base": 2 / 5, "new": 0, "harmonic": 0, "all": 1 / 3}
    )
    assert set(rows[ENSEMBLE].values()) == {1.0}
    assert end_to_end(top1_among, TRUTH, LabelSpace.all_base(NAMES)) == {}


def test_each_classifier_has_its_stage(top1_among):
    singles = {single.id: top1_among["zero_shot"] for single in SINGLE}
    parts = {single.stage: Part(trained_count=n) for n, single in enumerate(SINGLE)}
    rows = ablation(singles, TRUTH, CLASSES, parts, {})
    assert [row["trained"] for row in rows.values()] == list(range(len(SINGLE)))


SIX_NAMES = ("cat", "dog", "apple", "pie", "soup", "sea")
FIVE_IDS = np.array([0, 1, 4, 5, 0])
FIVE_SCORES = np.eye(6)[[0, 2, 4, 1, 0]]  # one base image goes wrong, and one new one


def scores(new=(4, 5), ood_log_odds=(3.0, 1.0, 0.0, 2.0, np.nan)):
    base = tuple(k for k in range(6) if k not in new)
    label_space = LabelSpace(SIX_NAMES, base)
    best = label_space.best_of_groups(FIVE_SCORES)
    predictions = Predictions(
        names=list("abcde"),
        ids=np.argsort(-FIVE_SCORES, axis=1, kind="stable")[:, :5].astype(np.int32),
        probabilities=np.full((5, 5), 0.2, np.float32),
        ood_log_odds=np.array(ood_log_odds, np.float32),
        routed_to_base=np.array([1, 1, 0, 1, 0], bool),
        view_weights=np.ones((5, 1), np.float32),
        skipped=[("e", "is empty")],
        top1_among=dict.fromkeys(("zero_shot", *(form.id for form in ROUTED), ENSEMBLE), best),
    )
    return make_scores(predictions, FIVE_IDS, label_space, {"text": Part()}, {}, 0.5)


def test_tables_and_routing_by_hand(tmp_path):
    table = scores()
    assert table["images"] == 5 and table["rows"][ENSEMBLE]["all"] == 3 / 5
    ends = table["end_to_end"]["ensemble_soft_routing"]
    assert ends == pytest.approx({"base": 2 / 3, "new": 1 / 2, "harmonic": 4 / 7, "all": 3 / 5})
    # the unreadable image is left out: base images score 3 and 1, new ones 0 and 2
    routing = {"auroc": 3 / 4, "fpr95": 1 / 2, "base_recall": 1, "new_recall": 1 / 2}
    assert table["routing"] == routing | {"confusion": [[2, 0], [1, 1]]}
    text = format_scores(table)
    assert "accuracy in percent on 5 images" in text and "57.14" in text
    assert table["labels"]["ensemble_soft_routing"] == "soft routing" and "\nsoft routing" in text
    assert text.endswith("100.00% of the base images and rejects 50.00% of the new images")


def test_without_new_classes_there_is_no_routing(tmp_path):
    table = scores(new=(), ood_log_odds=(np.inf,) * 5)
    assert table["end_to_end"] == table["routing"] == {}
    assert "AUROC" not in format_scores(table) and "among all" not in format_scores(table)


def test_where_all_of_one_kind_are_unreadable_there_is_no_routing(tmp_path):
    table = scores(ood_log_odds=(3.0, 1.0, np.nan, np.nan, 2.0))
    assert table["routing"] == {} and table["end_to_end"] and "AUROC" not in format_scores(table)
    write_scores(tmp_path / "scores.json", table)


def test_the_scores_are_written(tmp_path):
    table = scores()
    write_scores(tmp_path / "scores.json", table)
    assert json.loads((tmp_path / "scores.json").read_text()) == table
