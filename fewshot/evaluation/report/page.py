"""report.html: one page in one file about a test run and its images.

`write_report` collects what each section shows, and `page.html.jinja` lays it out. A section that
needs labels, new classes or pictures is left out if there are none.
"""

import base64
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from data.label_space import LabelSpace
from fewshot.evaluation.metrics import accuracy_of_classes, harmonic_mean, top5_accuracy
from fewshot.evaluation.ood_metrics import separation
from fewshot.evaluation.report import figures, plots
from fewshot.evaluation.report.formatting import FILTERS, show_all_characters
from fewshot.inference.classifiers import by_label
from fewshot.inference.predictions import Predictions
from runtime.files import atomic_write

TEMPLATE = Path(__file__).with_name("page.html.jinja")
PICTURES = 8  # per list
SIDE = 224  # pixels of a picture's longer side at most
Picture = Callable[[int, int], Image.Image]


def write_report(
    path: str | Path,
    predictions: Predictions,
    label_space: LabelSpace,
    *,
    threshold: float,
    truth: np.ndarray | None,
    scores: dict | None,
    seconds: dict[str, float | None],
    settings: dict,
    picture: Picture | None,
) -> None:
    """Writes the page, whole or not at all; the same arguments give the same bytes.

    - threshold: the log-odds from which an image counts as base.
    - truth: class ids [N], and scores: what `tables.make_scores` returns; None without labels.
    - seconds: those of each stage and step; one of None is left out.
    - settings: those of the run, shown as text.
    - picture(index, view): the RGB crop of a readable image, view 0 the centre view. It is called
      about 24 times.

    Raises ValueError if the arguments do not fit together.
    """
    _check(predictions, label_space, threshold, truth)
    skipped = {name for name, _ in predictions.skipped}
    is_readable = np.array([name not in skipped for name in predictions.names])
    classes = zip(label_space.domains, label_space.words, label_space.names, strict=True)
    context = {
        "images": len(predictions),
        "unreadable": predictions.skipped,
        "base_classes": len(label_space.base_ids),
        "new_classes": len(label_space.new_ids),
        "classes": [(domain, words or name) for domain, words, name in classes],
        "labelled": truth is not None,
        "ablation": _table(scores["rows"] if scores else {}),
        "end_to_end": _table(scores["end_to_end"] if scores else {}),
        "routing": _routing(predictions, label_space, threshold, truth, is_readable),
        "pictures": _pictures(predictions, truth, is_readable, picture),
        "seconds": {name: value for name, value in seconds.items() if value is not None},
        "settings": settings,
        "cards": None,
        "domains": None,
        "pairs": None,
        "calibration": None,
    }
    if truth is not None:
        context |= {
            "cards": _cards(predictions, label_space, truth),
            "domains": _domains(predictions, truth, label_space),
            "pairs": _pairs(predictions, truth),
            "calibration": _calibration(predictions, truth, is_readable),
        }
    page = _template().render(context)
    with atomic_write(path) as file:
        file.write(page + "\n")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_all_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(TEMPLATE.name)


def _check(
    predictions: Predictions, label_space: LabelSpace, threshold: float, truth: np.ndarray | None
) -> None:
    count = len(predictions)
    if not count:
        raise ValueError("predictions: hold no image; there is nothing to report")
    if np.isnan(threshold):
        raise ValueError("threshold: is NaN; it must be log-odds")
    if truth is None:
        return
    if truth.shape != (count,) or truth.dtype.kind not in "iu":
        shape = f"{truth.dtype}{list(truth.shape)}"
        raise ValueError(f"truth: is {shape}; it must be a class id per image, [{count}]")
    if truth.min() < 0 or truth.max() >= len(label_space):
        wrong = truth.min() if truth.min() < 0 else truth.max()
        raise ValueError(
            f"truth: {wrong} is no class id; there are 0 to {len(label_space) - 1}: "
            "correct the labels, or give none"
        )


def _cards(predictions: Predictions, label_space: LabelSpace, truth: np.ndarray) -> list[dict]:
    """Returns the accuracies at the top of the page; all choose among all classes."""
    predicted = predictions.ids[:, 0]
    groups = {"base classes": label_space.base_ids, "new classes": label_space.new_ids}
    accuracies = {
        name: accuracy_of_classes(predicted, truth, ids)
        for name, ids in groups.items()
        if np.isin(truth, ids).any()
    }
    cards = []
    if label_space.new_ids:
        for name, value in accuracies.items():
            images = int(np.isin(truth, groups[name]).sum())
            cards.append({"name": name, "value": value, "images": images})
        if len(accuracies) == 2:
            mean = harmonic_mean(*accuracies.values())
            cards.append({"name": "harmonic mean", "value": mean, "images": None})
    overall = accuracy_of_classes(predicted, truth, range(len(label_space)))
    top5 = top5_accuracy(predictions.ids, truth)
    cards.append({"name": "all classes", "value": overall, "images": len(truth)})
    cards.append({"name": "top-5, all classes", "value": top5, "images": len(truth)})
    return cards


def _table(rows: dict) -> dict | None:
    """Returns the rows by label, with the names of all columns in the order of their first use."""
    if not rows:
        return None
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return {"columns": list(columns), "rows": by_label(rows)}


def _routing(
    predictions: Predictions,
    label_space: LabelSpace,
    threshold: float,
    truth: np.ndarray | None,
    is_readable: np.ndarray,
) -> dict | None:
    """Returns how readable images are divided between base and new classes."""
    rows = is_readable & ~np.isnan(predictions.ood_log_odds)
    if not label_space.new_ids or not rows.any():
        return None
    score, is_base, metrics = predictions.ood_log_odds[rows], None, {}
    if truth is not None:
        is_base = label_space.is_base(truth[rows])
        metrics = separation(score, is_base, threshold)
    return metrics | {
        "threshold": threshold,
        "images": len(score),
        "to_base": int(predictions.routed_to_base[rows].sum()),
        "plot": plots.score_histogram(score, is_base, threshold),
    }


def _calibration(
    predictions: Predictions, truth: np.ndarray, is_readable: np.ndarray
) -> dict | None:
    if not is_readable.any():
        return None
    is_right = predictions.ids[is_readable, 0] == truth[is_readable]
    confidence = predictions.probabilities[is_readable, 0]
    bins = figures.reliability(confidence, is_right)
    columns = [bins[name].tolist() for name in ("count", "confidence", "accuracy")]
    return {
        "ece": bins["ece"],
        "mean": float(confidence.mean(dtype=np.float64)),
        "accuracy": float(is_right.mean()),
        "bins": list(zip(*columns, strict=True)),
        "plot": plots.reliability_diagram(bins),
    }


def _domains(predictions: Predictions, truth: np.ndarray, label_space: LabelSpace) -> dict | None:
    """Returns the accuracy of each domain and the confusion between them, if there are several."""
    names = list(dict.fromkeys(label_space.domains))
    if len(names) < 2:
        return None
    domain_of = np.array([names.index(domain) for domain in label_space.domains])
    predicted, table = predictions.ids[:, 0], []
    for number, name in enumerate(names):
        rows = domain_of[truth] == number
        ids = np.flatnonzero(domain_of == number)
        row = {"name": name, "classes": len(ids), "images": int(rows.sum())}
        row["new"] = int(np.isin(ids, label_space.new_ids).sum())
        if rows.any():
            row["top1"] = accuracy_of_classes(predicted, truth, ids)
            row["top5"] = top5_accuracy(predictions.ids[rows], truth[rows])
        table.append(row)
    counts = figures.domain_confusion(domain_of, truth, predicted, len(names))
    return {"names": names, "table": table, "confusion": counts.tolist()}


def _pairs(predictions: Predictions, truth: np.ndarray) -> list[dict]:
    images = np.bincount(truth)
    pairs = figures.worst_pairs(truth, predictions.ids[:, 0])
    return [{"true": t, "guess": g, "count": n, "of": int(images[t])} for t, g, n in pairs]


def _pictures(
    predictions: Predictions,
    truth: np.ndarray | None,
    is_readable: np.ndarray,
    picture: Picture | None,
) -> dict:
    """Returns the lists of pictures: the least certain guesses, and the views of extreme weight."""
    weights, confidence = predictions.view_weights, predictions.probabilities[:, 0]
    views = weights.shape[1]

    def entry(index: int, view: int) -> dict:
        return {
            "name": predictions.names[index],
            "guess": int(predictions.ids[index, 0]),
            "truth": None if truth is None else int(truth[index]),
            "probability": float(confidence[index]),
            "view": view,
            "weight": float(weights[index, view]) * views,
            "source": picture and _to_data_url(picture(index, view)),
        }

    least_certain = figures.least_certain(confidence, is_readable, PICTURES)
    lists = {"views": views, "least_certain": [entry(index, 0) for index in least_certain]}
    lists |= {"largest": [], "smallest": []}
    if picture is not None and views > 1:
        largest, smallest = figures.extreme_views(weights, is_readable, PICTURES)
        lists["largest"] = [entry(index, view) for index, view in largest]
        lists["smallest"] = [entry(index, view) for index, view in smallest]
    return lists


def _to_data_url(image: Image.Image) -> str:
    """Returns a small copy of the image as a data: URL."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
