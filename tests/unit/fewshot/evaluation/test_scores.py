"""scores.json and its text, on predictions that were made by hand."""

import json

import numpy as np
import pytest

from data.label_space import LabelSpace
from fewshot.evaluation.tables import format_scores, make_scores, write_scores
from fewshot.inference.classifiers import ENSEMBLE, ROUTED
from fewshot.inference.predictions import Predictions
from fewshot.stages.parts import Part

NAMES = ("cat", "dog", "apple", "pie", "soup", "sea")
TRUTH = np.array([0, 1, 4, 5, 0])
SCORES = np.eye(6)[[0, 2, 4, 1, 0]]  # one base image goes wrong, and one new one
PARTS = {"text": Part()}


def scores(new=(4, 5), ood_log_odds=(3.0, 1.0, 0.0, 2.0, np.nan)):
    base = tuple(k for k in range(6) if k not in new)
    label_space = LabelSpace(NAMES, base)
    best = label_space.best_of_groups(SCORES)
    predictions = Predictions(
        names=list("abcde"),
        ids=np.argsort(-SCORES, axis=1, kind="stable")[:, :5].astype(np.int32),
        probabilities=np.full((5, 5), 0.2, np.float32),
        ood_log_odds=np.array(ood_log_odds, np.float32),
        routed_to_base=np.array([1, 1, 0, 1, 0], bool),
        view_weights=np.ones((5, 1), np.float32),
        skipped=[("e", "is empty")],
        top1_among=dict.fromkeys(("zero_shot", *(form.id for form in ROUTED), ENSEMBLE), best),
    )
    return make_scores(predictions, TRUTH, label_space, PARTS, {}, 0.5)


def test_tables_and_routing_by_hand(tmp_path):
    found = scores()
    assert found["images"] == 5 and found["rows"][ENSEMBLE]["all"] == 3 / 5
    ends = found["end_to_end"]["ensemble_soft_routing"]
    assert ends == pytest.approx({"base": 2 / 3, "new": 1 / 2, "harmonic": 4 / 7, "all": 3 / 5})
    # the unreadable image is left out: base images score 3 and 1, new ones 0 and 2
    routing = {"auroc": 3 / 4, "fpr95": 1 / 2, "base_recall": 1, "new_recall": 1 / 2}
    assert found["routing"] == routing | {"confusion": [[2, 0], [1, 1]]}
    text = format_scores(found)
    assert "accuracy in percent on 5 images" in text and "57.14" in text
    assert found["labels"]["ensemble_soft_routing"] == "soft routing" and "\nsoft routing" in text
    assert text.endswith("100.00% of the base images and rejects 50.00% of the new images")


def test_without_new_classes_there_is_no_routing(tmp_path):
    found = scores(new=(), ood_log_odds=(np.inf,) * 5)
    assert found["end_to_end"] == found["routing"] == {}
    assert "AUROC" not in format_scores(found) and "among all" not in format_scores(found)


def test_where_all_of_one_kind_are_unreadable_there_is_no_routing(tmp_path):
    found = scores(ood_log_odds=(3.0, 1.0, np.nan, np.nan, 2.0))
    assert found["routing"] == {} and found["end_to_end"] and "AUROC" not in format_scores(found)
    write_scores(tmp_path / "scores.json", found)


def test_the_scores_are_written(tmp_path):
    found = scores()
    write_scores(tmp_path / "scores.json", found)
    assert json.loads((tmp_path / "scores.json").read_text()) == found
