"""Measures scores of base against new classes: `python benchmarks/measure_ood.py FEATURES.npz`.

The file holds text[C,E], test_features[M,E] and test_labels[M], train_features_{S}shot[N,E] and
train_labels_{S}shot[N] for one or more S, negative_text[J,E] (words that name no class) and
other_features[R,E] (images of none of the classes). The table has AUROC and FPR95 in percent for
three tasks:

far            all classes are base, other_features are the new images, negative_text is known
near, known    half of the classes is base, the other half is new, and the new names are known
near, unknown  the same, but negative_text is known instead of the new names

A row of "near" is the mean over --seeds draws. The base classes of a draw are the first half of
np.random.RandomState(seed).permutation(C). No setting is chosen here, and no shots of new classes
are used. Rows that begin with "filter" are models/ood/gp_filter.py, fitted to the shots. They also
have the share of base images that its threshold keeps (0.95 is the target) and the log-loss of its
odds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np
from tyro.conf import Positional

from benchmarks.rank_fusion import transductive_rank_fusion
from engine.config import parse
from fewshot.evaluation.ood_metrics import separation
from models.normalize import unit_rows
from models.ood.gp_filter import GPFilter
from models.ood.scores import deal_groups, known_names, mcm, neglabel
from runtime.table import table

SCALE = 100.0  # CLIP's own temperature
Kind = Literal["new", "negatives"]  # what the other names are, as for GPFilter
ARRAYS = {"text", "test_features", "test_labels", "negative_text", "other_features"}


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Returns (arrays, {shots: (features, labels)}), with rows of length 1 in float64.

    Raises ValueError if the file lacks an array.
    """
    with np.load(path) as file:
        shots = sorted(int(k[15:-4]) for k in file.files if k.startswith("train_features_"))
        missing = ARRAYS - set(file.files)
        if missing or not shots:
            raise ValueError(f"{path}: lacks {', '.join(sorted(missing)) or 'train_features_*'}")
        arrays = {name: file[name] for name in sorted(ARRAYS)}
        train = {s: (file[f"train_features_{s}shot"], file[f"train_labels_{s}shot"]) for s in shots}
    unit = {name: unit_rows(a.astype(np.float64)) for name, a in arrays.items() if a.ndim == 2}
    return arrays | unit, {s: (unit_rows(x.astype(np.float64)), y) for s, (x, y) in train.items()}


def scores_of(
    images: np.ndarray, base_text: np.ndarray, other_text: np.ndarray, kind: Kind, train: dict
) -> dict[str, tuple[np.ndarray, float]]:
    """Returns {name: (scores[N], threshold or NaN)}.

    train is {shots: (features, labels in 0..K-1)}.
    """
    base, other = (SCALE * images @ text.T for text in (base_text, other_text))
    scores = {"mcm": mcm(base), "mass on names": known_names(base, other)}
    if kind == "new":
        scores["transductive ERF"] = transductive_rank_fusion(base, other)
    else:
        scores["neglabel, groups"] = neglabel(base, other, deal_groups(other.shape[1]))
    with_thresholds = {name: (score, np.nan) for name, score in scores.items()}
    for shots, (features, labels) in train.items():
        gp_filter = GPFilter(kind).fit(features[:, None], labels, base_text, other_text)
        with_thresholds[f"filter, {shots} shots"] = gp_filter.score(images), gp_filter.threshold_
    return with_thresholds


def figures(score: np.ndarray, is_base: np.ndarray, threshold: float) -> list[float]:
    """Returns AUROC, FPR95, the share of base images kept and the log-loss.

    The last two are NaN if there is no threshold, because the score may then be no log-odds.
    """
    metrics = separation(score, is_base, threshold)
    if np.isnan(threshold):
        return [metrics["auroc"], metrics["fpr95"], np.nan, np.nan]
    loss = np.logaddexp(0, np.where(is_base, -score, score)).mean()
    return [metrics["auroc"], metrics["fpr95"], metrics["base_recall"], loss]


def near(arrays: dict, train: dict, seed: int, kind: Kind) -> dict[str, list[float]]:
    """Returns {score: figures} of one draw of base classes."""
    text, labels = arrays["text"], arrays["test_labels"]
    drawn = np.random.RandomState(seed).permutation(len(text))
    base, new = np.sort(drawn[: len(text) // 2]), np.sort(drawn[len(text) // 2 :])
    shots = {}
    for count, (features, shot_labels) in train.items():
        is_base = np.isin(shot_labels, base)
        shots[count] = features[is_base], np.searchsorted(base, shot_labels[is_base])
    other = text[new] if kind == "new" else arrays["negative_text"]
    scores = scores_of(arrays["test_features"], text[base], other, kind, shots)
    return {name: figures(s, np.isin(labels, base), t) for name, (s, t) in scores.items()}


def far(arrays: dict, train: dict) -> dict[str, list[float]]:
    """Returns {score: figures} of all classes against other images."""
    images = np.concatenate([arrays["test_features"], arrays["other_features"]])
    is_base = np.arange(len(images)) < len(arrays["test_features"])
    scores = scores_of(images, arrays["text"], arrays["negative_text"], "negatives", train)
    return {name: figures(s, is_base, t) for name, (s, t) in scores.items()}


def table_rows(task: str, rows: dict[str, list[float]]) -> list[list]:
    """Returns one task's rows of the table, shares in percent."""
    return [
        [task, name, 100 * auroc, 100 * fpr, 100 * kept, f"{loss:.3f}"]
        for name, (auroc, fpr, kept, loss) in rows.items()
    ]


@dataclass(frozen=True)
class Config:
    """Measures scores of base against new classes."""

    file: Positional[Path]
    """features, .npz"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of the draws of base classes"""


def main() -> None:
    """Prints the three tasks."""
    config = parse(Config, sys.argv[1:], "measure_ood")
    arrays, train = load(config.file)
    rows = table_rows("far", far(arrays, train))
    kinds: dict[str, Kind] = {"near, known": "new", "near, unknown": "negatives"}
    for task, kind in kinds.items():
        draws = [near(arrays, train, seed, kind) for seed in config.seeds]
        means = {name: list(np.mean([d[name] for d in draws], axis=0)) for name in draws[0]}
        rows += table_rows(task, means)
    print(table(rows, ["task", "score", "AUROC", "FPR95", "kept", "log-loss"]))


if __name__ == "__main__":
    main()
