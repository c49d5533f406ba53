"""scores.json and the tables on the terminal: everything that labels tell about a run.

The ablation has a row per classifier, with the accuracy, the trained numbers and the seconds of its
stage. The end-to-end table has the classifiers that tell base from new classes.
"""

import json
from pathlib import Path

import numpy as np

from data.label_space import GROUPS, LabelSpace
from fewshot.evaluation.metrics import accuracy, accuracy_of_classes, harmonic_mean
from fewshot.evaluation.ood_metrics import separation
from fewshot.inference.classifiers import CLASSIFIERS, ENSEMBLE, ROUTED, by_label
from fewshot.inference.predictions import Predictions
from fewshot.stages.parts import Part
from fewshot.stages.record import StageRecord
from runtime.files import atomic_write
from runtime.table import table

Table = dict[str, dict[str, float | int]]
SEPARATION = (
    "base against new classes: AUROC {auroc:.4f}, FPR95 {fpr95:.2%}; the threshold keeps "
    "{base_recall:.2%} of the base images and rejects {new_recall:.2%} of the new images"
)


def make_scores(
    predictions: Predictions,
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: dict[str, Part],
    record: dict[str, StageRecord],
    threshold: float,
) -> dict:
    """Returns the contents of scores.json, by the ids of classifiers.

    truth[N] holds class ids; parts and record are given by stage.

    - images: their number.
    - labels: what tables call each classifier.
    - rows: the table of `ablation`.
    - end_to_end: the table of `end_to_end`; empty without base and new images.
    - routing: the metrics of `separation`; empty without base and new images.
    """
    rows = ablation(predictions.top1_among, truth, label_space, parts, record)
    ends = end_to_end(predictions.top1_among, truth, label_space)
    readable = ~np.isnan(predictions.ood_log_odds)
    is_base = label_space.is_base(truth[readable])
    routing = {}
    if ends and is_base.any() and not is_base.all():
        routing = separation(predictions.ood_log_odds[readable], is_base, threshold)
    return {
        "images": len(truth),
        "labels": {id: CLASSIFIERS[id].label for id in (*rows, *ends)},
        "rows": rows,
        "end_to_end": ends,
        "routing": routing,
    }


def columns_of(label_space: LabelSpace) -> dict[str, tuple[list[int], str]]:
    """Returns the columns of the ablation: the ids of the classes whose images count, and the group
    that their first guess is chosen among.

    The columns are base, each domain of the base classes if there are several (chosen among all
    base classes), new, and all.
    """
    base, new = list(label_space.base_ids), list(label_space.new_ids)
    domains = label_space.base_ids_by_domain
    columns = {"base": (base, "base")}
    if len(domains) > 1:
        columns |= {name: (ids, "base") for name, ids in domains.items()}
    if new:
        columns["new"] = (new, "new")
    return columns | {"all": (list(range(len(label_space))), "all")}


def ablation(
    top1_among: dict[str, np.ndarray],
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: dict[str, Part],
    record: dict[str, StageRecord],
) -> Table:
    """Returns a row per classifier: accuracies as fractions, trained numbers, whole seconds.

    Numbers and seconds are those of the classifier's stage, and their sums for the ensemble. The
    ensemble without a member has accuracies only. A column without images is left out. The ensemble
    under each routing is in `end_to_end` instead.
    """
    rows: Table = {}
    for id, best in top1_among.items():
        classifier = CLASSIFIERS[id]
        if classifier.routing:
            continue
        row = rows[id] = {}
        for name, (ids, group) in columns_of(label_space).items():
            if np.isin(truth, ids).any():
                row[name] = accuracy_of_classes(best[:, GROUPS.index(group)], truth, ids)
        if classifier.without:
            continue
        stages = tuple(parts) if id == ENSEMBLE else (classifier.stage,)
        row["trained"] = sum(parts[stage].trained_count for stage in stages)
        seconds = [record[stage].seconds if stage in record else None for stage in stages]
        if None not in seconds:
            row["seconds"] = round(sum(filter(None, seconds)))
    return rows


def end_to_end(
    top1_among: dict[str, np.ndarray], truth: np.ndarray, label_space: LabelSpace
) -> Table:
    """Returns rows for zero-shot, the ensemble under each routing, and the submitted ensemble.

    Columns are the accuracy of base and of new images, both chosen among all classes, their
    harmonic mean, and the accuracy of all images. Empty without images of both kinds.
    """
    kinds = {"base": label_space.is_base(truth), "new": label_space.is_new(truth)}
    if not all(kind.any() for kind in kinds.values()):
        return {}
    rows = {}
    for id in ("zero_shot", *(form.id for form in ROUTED), ENSEMBLE):
        best = top1_among[id][:, GROUPS.index("all")]
        row = {name: accuracy(best[kind], truth[kind]) for name, kind in kinds.items()}
        row["harmonic"] = harmonic_mean(row["base"], row["new"])
        rows[id] = row | {"all": accuracy(best, truth)}
    return rows


def write_scores(path: Path, scores: dict) -> None:
    """Writes the scores as JSON, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(scores, file, indent=1, allow_nan=False)
        file.write("\n")


def format_scores(scores: dict) -> str:
    """Returns the scores as tables for the terminal."""
    text = f"accuracy in percent on {scores['images']} images\n{_format(scores['rows'])}"
    if scores["end_to_end"]:
        text += f"\n\nevery image chooses among all classes\n{_format(scores['end_to_end'])}"
    if scores["routing"]:
        text += "\n" + SEPARATION.format(**scores["routing"])
    return text


def _format(rows: Table) -> str:
    """Returns a table with fractions in percent and whole numbers as they are."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines: list[list] = []
    for label, row in by_label(rows).items():
        cells = [row.get(column) for column in columns]
        lines.append([label, *(100 * v if isinstance(v, float) else v for v in cells)])
    return table(lines, ["", *columns])
