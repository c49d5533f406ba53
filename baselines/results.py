"""What a finished run leaves: scores, the confusion matrix, curves and one line for tables."""

import csv
import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from engine.code_version import code_hashes
from engine.run_log import Run, commit, versions
from fewshot.evaluation.metrics import accuracy
from runtime.files import atomic_write
from weight_files.hashing import sha256_of

FIGURE_DPI = 100
CODE = (
    "baselines/**/*.py",
    "data/*.py",
    "engine/*.py",
    "fewshot/**/*.py",
    "jclip/*.py",
    "kernels/*.hpp",
    "kernels/*.py",
    "models/**/*.py",
    "recipes/*.py",
    "runtime/*.py",
    "weight_files/*.py",
)
FILES = (  # of a phase's folder: what a result follows from, or is written with
    "best.pkl",
    "metrics.jsonl",
    "confusion.csv",
    "summary.csv",
    "../split.jsonl",
    "../labelled.jsonl",
)


def write_result(
    run: Run,
    logits: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    extra: dict,
    images: dict | None = None,
) -> dict:
    """Writes result.json, summary.csv, confusion.csv, confusion.png and curves.png; returns the
    result: accuracy, and precision, recall and F1 as means over classes, in [0, 1].

    logits[N,C] and labels[N] of the test images. `extra` joins the result; images: where these and
    the training images came from, for an audit.
    """
    chosen = logits.argmax(axis=1)
    present = np.unique(labels)  # a class without images has no recall
    means = precision_recall_fscore_support(
        labels, chosen, labels=present, average="macro", zero_division=0
    )
    scores = dict(zip(("precision", "recall", "f1"), map(float, means[:3]), strict=True))
    result = {"accuracy": accuracy(chosen, labels)} | scores | {"images": len(labels)} | extra
    counts = confusion_matrix(labels, chosen, labels=range(len(class_names)))
    with atomic_write(run.folder / "confusion.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ guessed", *class_names])
        writer.writerows([name, *row] for name, row in zip(class_names, counts, strict=True))
    _confusion(run.folder / "confusion.png", counts, class_names)
    _curves(run.folder / "curves.png", run.lines())
    with atomic_write(run.folder / "summary.csv") as file:
        row = {name: _cell(value) for name, value in (run.config | result).items()}
        table = csv.DictWriter(file, row)
        table.writeheader()
        table.writerow(row)
    with atomic_write(run.folder / "result.json") as file:
        record = {"config": run.config, "result": result, "made_from": _made_from(run, images)}
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    _show(run, result)
    return result


def _made_from(run: Run, images: dict | None) -> dict:
    """Hashes of what the result followed from and was written with, for an audit."""
    paths = {name: run.folder / name for name in FILES}
    return {
        "files": {name: sha256_of(path) for name, path in paths.items() if path.is_file()},
        "images": images,
        "code": code_hashes(CODE),
        "commit": commit(),
        "versions": versions(),
    }


def stored_result(run: Run) -> dict | None:
    """The result of a finished run of the same configuration, if there is one; also printed."""
    path = run.folder / "result.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if stored.get("config") != run.config:
        return None
    _show(run, stored["result"])
    return stored["result"]


def _show(run: Run, result: dict) -> None:
    shares = {name: value for name, value in result.items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in shares.items())
    print(f"{run.name}, {result['images']} test images: {shown} ({run.folder})", flush=True)


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _save(path: Path, figure: Figure) -> None:
    with atomic_write(path, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)


def _confusion(path: Path, counts: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Rows are true classes, in shares of their images."""
    figure = Figure(figsize=(7, 6), dpi=FIGURE_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, cmap="Blues", vmin=0, vmax=1), label="share of the class")
    axes.set(xlabel="guessed", ylabel="true")
    if len(class_names) <= 20:
        axes.set_xticks(range(len(class_names)), class_names, rotation=90)
        axes.set_yticks(range(len(class_names)), class_names)
    _save(path, figure)


def _curves(path: Path, lines: list[dict]) -> None:
    """Losses beside accuracies, by epoch."""
    figure = Figure(figsize=(9, 4), dpi=FIGURE_DPI, layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        names = [name for name in (lines[-1] if lines else {}) if name.endswith(kind)]
        for name in names:
            axes.plot([line["epoch"] + 1 for line in lines], [line[name] for line in lines])
        axes.set(xlabel="epoch", ylabel=kind)
        if names:
            axes.legend(names)
    _save(path, figure)
