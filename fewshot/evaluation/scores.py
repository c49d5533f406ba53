"""scores.json and the tables on the terminal: all that labels say of a run."""

import json
from pathlib import Path

import numpy as np

from data.label_space import LabelSpace
from fewshot.evaluation.ablation import ablation, end_to_end
from fewshot.evaluation.metrics import table
from fewshot.evaluation.ood_metrics import evaluate
from fewshot.inference.classifiers import CLASSIFIERS, by_label
from fewshot.inference.predictions import Predictions
from fewshot.stages.parts import Part
from fewshot.stages.record import StageRecord
from runtime.files import atomic_write

ROUTING = """
base against new: AUROC {auroc:.4f}, FPR95 {fpr95:.2%}; \
at the threshold {base_kept:.2%} of base kept, {new_found:.2%} of new found"""


def scores_of(
    predictions: Predictions,
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: dict[str, Part],
    record: dict[str, StageRecord],
    threshold: float,
) -> dict:
    """Returns the contents of scores.json, by the ids of classifiers.

    truth[N] holds class ids, parts are given by stage.

    - images: their number.
    - labels: what tables call each classifier.
    - rows: what each part contributes (`ablation`).
    - end_to_end: accuracies among all classes; empty without base and new images.
    - routing: the figures of `ood_metrics.evaluate`; empty without base and new images.
    """
    routing = {}
    rows = ablation(predictions.top1_among, truth, label_space, parts, record)
    ends = end_to_end(predictions.top1_among, truth, label_space)
    readable = ~np.isnan(predictions.ood_log_odds)
    is_base = label_space.is_base(truth[readable])
    if ends and is_base.any() and not is_base.all():
        routing = evaluate(predictions.ood_log_odds[readable], is_base, threshold)
    labels = {id: CLASSIFIERS[id].label for id in (*rows, *ends)}
    return {
        "images": len(truth),
        "labels": labels,
        "rows": rows,
        "end_to_end": ends,
        "routing": routing,
    }


def write_scores(path: Path, scores: dict) -> None:
    """Writes the scores as JSON, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(scores, file, indent=1, allow_nan=False)
        file.write("\n")


def as_text(scores: dict) -> str:
    """The scores as tables."""
    text = f"accuracy in percent on {scores['images']} images\n{table(by_label(scores['rows']))}"
    if scores["end_to_end"]:
        text += f"\n\nchoosing among all classes\n{table(by_label(scores['end_to_end']))}"
    if scores["routing"]:
        text += "\n" + ROUTING.format(**scores["routing"])
    return text
