"""Measures the OOD scores on CLIP features: `python benchmarks/measure_ood.py FEATURES.npz`.

The file holds text[C,E], test_features[M,E] and test_labels[M], train_features_{S}shot[N,E] and
train_labels_{S}shot[N] for one or more S, negative_text[J,E] (words that name no class) and
other_features[R,E] (images of none of the classes). Prints AUROC and FPR95 in percent:

far            all classes are base, other_features are the new images; negative_text is known
near, known    half of the classes is base, the other half new; the names of the new are known
near, unknown  the same with negative_text alone

near is the mean over --seeds draws, the base classes of a draw being the first half of
np.random.RandomState(seed).permutation(C). Shots of new classes are never touched, and no setting
is chosen here. Rows beginning with "filter" are models/ood/gp_filter.py, fitted to the shots,
with the
share of base images that its threshold keeps (0.95 is asked for) and the log-loss of its odds.
"""

import argparse
from pathlib import Path
from typing import Literal

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np

from benchmarks.rank_fusion import transductive_rank_fusion
from fewshot.evaluation.ood_metrics import evaluate
from fewshot.text.negatives import grouped
from models.normalize import unit_rows
from models.ood.gp_filter import GPFilter
from models.ood.scores import known_names, mcm, neglabel

SCALE = 100.0  # CLIP's own temperature
Kind = Literal["new", "negatives"]  # the classes beside the base ones, as for GPFilter
NEEDED = {"text", "test_features", "test_labels", "negative_text", "other_features"}


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[int, tuple[np.ndarray, np.ndarray]]]:
    """(arrays, {shots: (features, labels)}), rows of length 1 in float64. Raises ValueError naming
    the file and what it lacks.
    """
    with np.load(path) as file:
        shots = sorted(int(k[15:-4]) for k in file.files if k.startswith("train_features_"))
        missing = NEEDED - set(file.files)
        if missing or not shots:
            raise ValueError(f"{path}: lacks {', '.join(sorted(missing)) or 'train_features_*'}")
        arrays = {name: file[name] for name in sorted(NEEDED)}
        train = {s: (file[f"train_features_{s}shot"], file[f"train_labels_{s}shot"]) for s in shots}
    unit = {name: unit_rows(a.astype(np.float64)) for name, a in arrays.items() if a.ndim == 2}
    return arrays | unit, {s: (unit_rows(x.astype(np.float64)), y) for s, (x, y) in train.items()}


def scores_of(
    images: np.ndarray, base_text: np.ndarray, other_text: np.ndarray, kind: Kind, train: dict
) -> dict[str, tuple[np.ndarray, float]]:
    """{way: (score[N], threshold or NaN)}; train: {shots: (features, labels in 0..K-1)}."""
    base, other = (SCALE * images @ text.T for text in (base_text, other_text))
    ways = {"mcm": mcm(base), "mass on names": known_names(base, other)}
    if kind == "new":
        ways["transductive ERF"] = transductive_rank_fusion(base, other)
    else:
        ways["neglabel, groups"] = neglabel(base, other, grouped(other.shape[1]))
    found = {way: (score, np.nan) for way, score in ways.items()}
    for shots, (features, labels) in train.items():
        fitted = GPFilter(kind).fit(features[:, None], labels, base_text, other_text)
        found[f"filter, {shots} shots"] = fitted.score(images), fitted.threshold_
    return found


def figures(score: np.ndarray, is_base: np.ndarray, threshold: float) -> list[float]:
    """AUROC, FPR95, the share of base images kept and the log-loss; the last two NaN where there
    is no threshold (the score may be no log-odds then).
    """
    told = evaluate(score, is_base, threshold)
    kept = loss = np.nan
    if not np.isnan(threshold):
        kept = told["base_kept"]
        loss = np.logaddexp(0, np.where(is_base, -score, score)).mean()
    return [told["auroc"], told["fpr95"], kept, loss]


def near(arrays: dict, train: dict, seed: int, kind: Kind) -> dict[str, list[float]]:
    """{way: figures} of one draw of base classes."""
    text, labels = arrays["text"], arrays["test_labels"]
    drawn = np.random.RandomState(seed).permutation(len(text))
    base, new = np.sort(drawn[: len(text) // 2]), np.sort(drawn[len(text) // 2 :])
    shots = {}
    for count, (features, own) in train.items():
        kept = np.isin(own, base)
        shots[count] = features[kept], np.searchsorted(base, own[kept])
    other = text[new] if kind == "new" else arrays["negative_text"]
    found = scores_of(arrays["test_features"], text[base], other, kind, shots)
    return {way: figures(s, np.isin(labels, base), t) for way, (s, t) in found.items()}


def far(arrays: dict, train: dict) -> dict[str, list[float]]:
    """{way: figures} of all classes against other images."""
    images = np.concatenate([arrays["test_features"], arrays["other_features"]])
    is_base = np.arange(len(images)) < len(arrays["test_features"])
    found = scores_of(images, arrays["text"], arrays["negative_text"], "negatives", train)
    return {way: figures(s, is_base, t) for way, (s, t) in found.items()}


def show(name: str, rows: dict[str, list[float]]) -> None:
    """Prints one task's lines of the table."""
    for way, (auroc, fpr, kept, loss) in rows.items():
        last = "" if np.isnan(kept) else f"{100 * kept:>9.2f}{loss:>10.3f}"
        print(f"{name:<14} {way:<18}{100 * auroc:>9.2f}{100 * fpr:>9.2f}{last}", flush=True)


def main() -> None:
    """Prints the three tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="features, .npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="draws")
    arguments = parser.parse_args()
    arrays, train = load(arguments.file)
    print(f"{'task':<14} {'score':<18}{'AUROC':>9}{'FPR95':>9}{'kept':>9}{'log-loss':>10}")
    show("far", far(arrays, train))
    kinds: dict[str, Kind] = {"near, known": "new", "near, unknown": "negatives"}
    for name, kind in kinds.items():
        draws = [near(arrays, train, seed, kind) for seed in arguments.seeds]
        show(name, {way: list(np.mean([d[way] for d in draws], axis=0)) for way in draws[0]})


if __name__ == "__main__":
    main()
