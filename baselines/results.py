"""The files of a finished run: scores, the confusion matrix, curves and one line for tables."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from engine.code_version import code_hashes
from engine.run_log import Run
from engine.versions import commit, versions
from fewshot.evaluation.metrics import accuracy
from runtime.files import atomic_write
from runtime.paths import ROOT
from weight_files.hashing import sha256_of

RESULT = "result.json"
FIGURE_DPI = 100
MAX_NAMED_CLASSES = 20  # in the figure of the confusion matrix
RECIPES = [f"recipes.{path.stem}" for path in sorted((ROOT / "recipes").glob("*.py"))]
# in the folder of a phase: what a result depends on, or is written with
FILES = ["best.pkl", "metrics.jsonl", "confusion.csv", "summary.csv"]
FILES += ["../split.jsonl", "../labelled.jsonl"]


def write_result(
    run: Run,
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    extra: dict,
    images: dict | None = None,
) -> dict:
    """Writes result.json, summary.csv, confusion.csv, confusion.png and curves.png.

    logits[N,C] and labels[N] of the test images. extra: further entries of the result. images:
    where training and test images came from, for an audit. Returns the result: accuracy, and
    precision, recall and F1 as means over the classes that have test images, all in [0, 1].
    """
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    result: dict[str, Any] = {"accuracy": accuracy(predicted, labels)}
    result |= {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    result |= {"images": len(labels)} | extra
    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    with atomic_write(run.folder / "confusion.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, counts, strict=True))
    _plot_confusion(run.folder / "confusion.png", counts, class_names)
    _plot_curves(run.folder / "curves.png", run.lines())
    with atomic_write(run.folder / "summary.csv") as file:
        row = {name: _cell(value) for name, value in (run.config | result).items()}
        table = csv.DictWriter(file, row)
        table.writeheader()
        table.writerow(row)
    with atomic_write(run.folder / RESULT) as file:
        record = {"config": run.config, "result": result, "made_from": _made_from(run, images)}
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    _print_result(run, result)
    return result


def _made_from(run: Run, images: dict | None) -> dict:
    """Returns hashes of what the result depends on and was written with, for an audit."""
    paths = {name: run.folder / name for name in FILES}
    return {
        "files": {name: sha256_of(path) for name, path in paths.items() if path.is_file()},
        "images": images,
        "code": code_hashes(RECIPES),
        "commit": commit(),
        "versions": versions(),
    }


def find_result(run: Run) -> dict | None:
    """Returns and prints the result of a finished run with the same configuration, else None."""
    path = run.folder / RESULT
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("config") != run.config:
        return None
    _print_result(run, record["result"])
    return record["result"]


def _print_result(run: Run, result: dict) -> None:
    scores = {name: value for name, value in result.items() if isinstance(value, float)}
    text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in scores.items())
    print(f"{run.name}, {result['images']} test images: {text} ({run.folder})", flush=True)


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _save(path: Path, figure: Figure) -> None:
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)


def _plot_confusion(path: Path, counts: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Draws counts[C,C]; rows are true classes, in shares of their images."""
    figure = Figure(figsize=(7, 6), dpi=FIGURE_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the class")
    axes.set(xlabel="predicted", ylabel="true")
    if len(class_names) <= MAX_NAMED_CLASSES:
        axes.set_xticks(range(len(class_names)), class_names, rotation=90)
        axes.set_yticks(range(len(class_names)), class_names)
    _save(path, figure)


def _plot_curves(path: Path, lines: list[dict]) -> None:
    """Draws losses next to accuracies by epoch."""
    figure = Figure(figsize=(9, 4), dpi=FIGURE_DPI, layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        names = [name for name in (lines[-1] if lines else {}) if name.endswith(kind)]
        for name in names:
            axes.plot([line["epoch"] + 1 for line in lines], [line[name] for line in lines])
        axes.set(xlabel="epoch", ylabel=kind)
        if names:
            axes.legend(names)
    _save(path, figure)
