"""report.html: one page, whole in one file, of what a run found out about its test images.

`write_report` gathers what each section shows; `report.html.jinja` lays it out. A section whose
numbers need labels, new classes or pictures is left out where there are none.
"""

import base64
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from data.label_space import LabelSpace
from fewshot.evaluation.ablation import end_to_end
from fewshot.evaluation.metrics import harmonic_mean
from fewshot.evaluation.ood_metrics import evaluate
from fewshot.evaluation.report import figures, plots
from fewshot.evaluation.report.formatting import FILTERS, shown
from fewshot.inference.classifiers import by_label
from fewshot.inference.predictions import Predictions
from runtime.files import atomic_write

TEMPLATE = Path(__file__).with_name("page.html.jinja")
PICTURES = 8  # a row of pictures
SIDE = 224  # pixels of a picture's longer side at most
Picture = Callable[[int, int], Image.Image]


def write_report(
    path: str | Path,
    outcome: Predictions,
    label_space: LabelSpace,
    *,
    threshold: float,
    truth: np.ndarray | None,
    rows: dict | None,
    seconds: dict[str, float | None],
    settings: dict,
    picture: Picture | None,
) -> None:
    """Writes the page atomically; the same arguments give the same bytes.

    threshold: log-odds from which on an image is taken for one of a base class. truth[N]: class
    ids. rows: what `fewshot.evaluation.ablation.ablation` returns. seconds: of the stages of
    training and the
    parts of the test, None (left out) where unknown. settings: what the run used, shown as text.
    picture(index, view): the RGB crop of an image that could be read, view 0 the centre one; it is
    asked about 24 times.

    Raises ValueError where these do not fit together.
    """
    _check(outcome, label_space, threshold, truth)
    unread = {name for name, _ in outcome.skipped}
    known = np.array([name not in unread for name in outcome.names])
    labelled = None if truth is None else np.asarray(truth)
    words = (words or name for words, name in _zip(label_space.words, label_space.names))
    context = {
        "images": len(outcome),
        "unreadable": outcome.skipped,
        "base_classes": len(label_space.base_ids),
        "new_classes": len(label_space.new_ids),
        "classes": list(_zip(label_space.domains, words)),
        "labelled": labelled is not None,
        "ways": _table(by_label(rows or {})),
        "routing": _routing(outcome, label_space, threshold, labelled, known),
        "pictures": _pictures(outcome, labelled, known, picture),
        "seconds": {name: value for name, value in seconds.items() if value is not None},
        "settings": settings,
    }
    context |= _with_labels(outcome, labelled, known, label_space)
    page = _template().render(context)
    with atomic_write(path) as file:
        file.write(page + "\n")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(TEMPLATE.name)


_zip = partial(zip, strict=True)


def _check(
    outcome: Predictions, label_space: LabelSpace, threshold: float, truth: np.ndarray | None
) -> None:
    count = len(outcome)
    if not count:
        raise ValueError("outcome: holds no image; there is nothing to report")
    if np.isnan(threshold):
        raise ValueError("threshold: is NaN; give the log-odds from which on an image is base")
    if truth is None:
        return
    truth = np.asarray(truth)
    if truth.shape != (count,) or truth.dtype.kind not in "iu":
        shape = f"{truth.dtype}{list(truth.shape)}"
        raise ValueError(f"truth: is {shape}, not class ids [{count}], one an image")
    if truth.min() < 0 or truth.max() >= len(label_space):
        wrong = truth.min() if truth.min() < 0 else truth.max()
        raise ValueError(
            f"truth: {wrong} is no class id; there are 0 to {len(label_space) - 1}: "
            "mend the labels, or give none"
        )


def _with_labels(
    outcome: Predictions,
    truth: np.ndarray | None,
    known: np.ndarray,
    label_space: LabelSpace,
) -> dict:
    """The sections that need labels, None without."""
    if truth is None:
        return dict.fromkeys(("cards", "end_to_end", "domains", "pairs", "calibration"))
    scored = "zero_shot" in outcome.top1_among
    return {
        "cards": _cards(outcome, label_space, truth),
        "end_to_end": _table(by_label(end_to_end(outcome.top1_among, truth, label_space)))
        if scored
        else None,
        "domains": _domains(outcome, truth, label_space),
        "pairs": _pairs(outcome, truth),
        "calibration": _calibration(outcome, truth, known),
    }


def _cards(outcome: Predictions, label_space: LabelSpace, truth: np.ndarray) -> list[dict]:
    """The accuracies on top of the page, all of them choosing among all classes."""
    guess = outcome.ids[:, 0]
    groups = {"base classes": label_space.base_ids, "new classes": label_space.new_ids}
    every = range(len(label_space))
    found = {name: figures.accuracy_of(guess, truth, ids) for name, ids in groups.items()}
    present = {name: value for name, value in found.items() if value == value}
    cards = []
    if label_space.new_ids:
        for name, value in present.items():
            images = int(np.isin(truth, groups[name]).sum())
            cards.append({"name": name, "value": value, "images": images})
        if len(present) == 2:
            mean = harmonic_mean(*present.values())
            cards.append({"name": "harmonic mean", "value": mean, "images": None})
    overall = figures.accuracy_of(guess, truth, every)
    top5 = figures.top5_accuracy(outcome.ids, truth)
    cards.append({"name": "all classes", "value": overall, "images": len(truth)})
    cards.append({"name": "top-5, all classes", "value": top5, "images": len(truth)})
    return cards


def _table(rows: dict) -> dict | None:
    """The rows with the names of all their columns, in the order in which they come up."""
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return {"columns": list(columns), "rows": rows} if rows else None


def _routing(
    outcome: Predictions,
    label_space: LabelSpace,
    threshold: float,
    truth: np.ndarray | None,
    known: np.ndarray,
) -> dict | None:
    """Base against new over the images that could be read."""
    known = known & ~np.isnan(outcome.ood_log_odds)
    if not label_space.new_ids or not known.any():
        return None
    score, routed = outcome.ood_log_odds[known], outcome.routed_to_base[known]
    found = {"threshold": threshold, "images": len(score), "to_base": int(routed.sum())}
    is_base = None
    if truth is not None:
        is_base = label_space.is_base(truth[known])
        found |= evaluate(score, is_base, threshold)
        found["confusion"] = figures.routing_confusion(is_base, routed).tolist()
    return found | {"plot": plots.score_histogram(score, is_base, threshold)}


def _calibration(outcome: Predictions, truth: np.ndarray, known: np.ndarray) -> dict | None:
    if not known.any():
        return None
    right = outcome.ids[known, 0] == truth[known]
    found = figures.reliability(outcome.probabilities[known, 0], right)
    columns = (found[name].tolist() for name in ("count", "confidence", "accuracy"))
    return {
        "ece": found["ece"],
        "mean": float(outcome.probabilities[known, 0].mean(dtype=np.float64)),
        "accuracy": float(right.mean()),
        "bins": list(_zip(*columns)),
        "plot": plots.reliability_diagram(found),
    }


def _domains(outcome: Predictions, truth: np.ndarray, label_space: LabelSpace) -> dict | None:
    """Accuracy of each domain and the confusion between them, where there are several."""
    names = list(dict.fromkeys(label_space.domains))
    if len(names) < 2:
        return None
    domain_of = np.array([names.index(domain) for domain in label_space.domains])
    table = []
    for number, name in enumerate(names):
        rows = domain_of[truth] == number
        ids = np.flatnonzero(domain_of == number)
        row = {
            "name": name,
            "classes": len(ids),
            "new": int(np.isin(ids, label_space.new_ids).sum()),
        }
        row["images"] = int(rows.sum())
        if rows.any():
            row["top1"] = figures.accuracy_of(outcome.ids[:, 0], truth, ids)
            row["top5"] = figures.top5_accuracy(outcome.ids[rows], truth[rows])
        table.append(row)
    counts = figures.domain_confusion(domain_of, truth, outcome.ids[:, 0], len(names))
    return {"names": names, "table": table, "confusion": counts.tolist()}


def _pairs(outcome: Predictions, truth: np.ndarray) -> list[dict]:
    images = np.bincount(truth)
    pairs = figures.worst_pairs(truth, outcome.ids[:, 0])
    return [{"true": t, "guess": g, "count": n, "of": int(images[t])} for t, g, n in pairs]


def _pictures(
    outcome: Predictions, truth: np.ndarray | None, known: np.ndarray, picture: Picture | None
) -> dict:
    """The rows of pictures: least sure guesses, and crops at both ends of inlierness."""

    def entry(index: int, view: int) -> dict:
        right = {} if truth is None else {"truth": int(truth[index])}
        return right | {
            "name": outcome.names[index],
            "guess": int(outcome.ids[index, 0]),
            "probability": float(outcome.probabilities[index, 0]),
            "view": view,
            "weight": float(outcome.view_weights[index, view]) * views,
            "source": picture and _data_address(picture(index, view)),
        }

    views = outcome.view_weights.shape[1]
    shown_rows = figures.least_sure(outcome.probabilities[:, 0], known, PICTURES)
    found = {"views": views, "least_sure": [entry(index, 0) for index in shown_rows]}
    ends = ("inliers", "outliers")
    if picture is None or views < 2:
        return found | dict.fromkeys(ends, [])
    extremes = figures.extreme_views(outcome.view_weights, known, PICTURES)
    return found | {end: [entry(*at) for at in rows] for end, rows in _zip(ends, extremes)}


def _data_address(image: Image.Image) -> str:
    """The image, made small, as a data: address."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
