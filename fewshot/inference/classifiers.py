"""The classifiers: every way to score an image, by its id.

An id is what code and files use as a key. A label is what tables show.
"""

from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Classifier:
    """One way to score an image."""

    id: str
    label: str
    stage: str = ""  # the stage that trains what it adds; "" for all forms of the ensemble
    without: str = ""  # id of the member that this form of the ensemble lacks
    routing: str = ""  # the routing of this form of the ensemble, one of ROUTINGS


ENSEMBLE = "ensemble"  # the classifier whose scores are submitted
# Shares of the members in the ensemble's logits. docs/experiments/head.md has the measurements.
ENSEMBLE_WEIGHTS = {"gda": 0.1, "prompts": 0.1, "lora": 0.2, "channel": 0.6}
ROUTINGS = {"soft": "soft routing", "hard": "hard routing", "none": "no routing"}

SINGLE = (  # a label with + adds its part to those before it
    Classifier("zero_shot", "zero-shot", "text"),
    Classifier("prompts", "+ prompt queue", "prompt"),
    Classifier("lora", "+ LoRA", "lora"),
    Classifier("lpplusplus", "+ LP++", "head"),
    Classifier("channel", "+ channel re-weighting", "channel"),
    Classifier("gda", "zero-shot + GDA", "gda"),
    Classifier("auxiliary", "+ auxiliary", "auxiliary"),
)
LABELS = {single.id: single.label.removeprefix("+ ") for single in SINGLE}
LEAVE_ONE_OUT = tuple(
    Classifier(f"ensemble_without_{id}", f"ensemble without {LABELS[id]}", without=id)
    for id in (*ENSEMBLE_WEIGHTS, "auxiliary")
)
ROUTED = tuple(
    Classifier(f"ensemble_{routing}_routing", label, routing=routing)
    for routing, label in ROUTINGS.items()
)
CLASSIFIERS = {
    classifier.id: classifier
    for classifier in (*SINGLE, *LEAVE_ONE_OUT, Classifier(ENSEMBLE, "ensemble"), *ROUTED)
}


def by_label(rows: dict[str, Row]) -> dict[str, Row]:
    """Returns rows that are given by the id of the classifier, by its label."""
    return {CLASSIFIERS[id].label: row for id, row in rows.items()}
