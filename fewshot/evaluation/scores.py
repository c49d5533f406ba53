"""scores.json and the tables on the terminal: all that labels say of a run."""

import json
from pathlib import Path

import numpy as np

from data.label_space import LabelSpace
from fewshot.evaluation.ablation import ablation, end_to_end
from fewshot.evaluation.metrics import table
from fewshot.evaluation.ood_metrics import evaluate
from fewshot.inference.predictions import Predictions
from fewshot.stages.pipeline import Parts
from runtime.files import atomic_write

ROUTING = """
base against new: AUROC {auroc:.4f}, FPR95 {fpr95:.2%}; \
at the threshold {base_kept:.2%} of base kept, {new_found:.2%} of new found"""


def scores_of(
    outcome: Predictions,
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: Parts,
    record: dict,
    threshold: float,
) -> dict:
    """{"images": count, "rows": what each part brought, "end_to_end": accuracies among all classes,
    "routing": what `ood.evaluate` returns}; the last two are empty without base and new images.

    truth[N]; record: what `stages.read_record` returns.
    """
    ends, routing = end_to_end(outcome.picks, truth, label_space), {}
    known = ~np.isnan(outcome.base_score)  # could be read
    is_base = label_space.is_base(truth[known])
    if ends and is_base.any() and not is_base.all():
        routing = evaluate(outcome.base_score[known], is_base, threshold)
    rows = ablation(outcome.picks, truth, label_space, parts, record)
    return {"images": len(truth), "rows": rows, "end_to_end": ends, "routing": routing}


def write_scores(path: Path, scores: dict) -> None:
    """Writes the scores as JSON, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(scores, file, indent=1, allow_nan=False)
        file.write("\n")


def as_text(scores: dict) -> str:
    """The scores as tables."""
    text = f"accuracy in percent on {scores['images']} images\n{table(scores['rows'])}"
    if scores["end_to_end"]:
        text += f"\n\nchoosing among all classes\n{table(scores['end_to_end'])}"
    if scores["routing"]:
        text += "\n" + ROUTING.format(**scores["routing"])
    return text
