"""Measures what is fitted to CLIP features: `python benchmarks/measure_head.py FEATURES.npz`.

The file holds text[C,E], train_features_{S}shot[N,E] and train_labels_{S}shot[N] for one or more
S, test_features[M,E] and test_labels[M]. Prints accuracy in percent on the test features for every
S (default settings, nothing chosen on test labels), then the mean and 95% interval of the gain
over random class subsets. One or two minutes for 196 classes and a few subsets; progress comes a
line at a time.

Columns: zero-shot; LP++ by its public code and by its paper, 300 updates each; our head; the same
on re-weighted channels, and zero-shot there; zero-shot with the Gaussian discriminant beside it;
blended, zero-shot and the head on re-weighted channels in the shares of
fewshot/inference/ensemble.py; the
same with the discriminant beside zero-shot, as there.
"""

import argparse
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np

from benchmarks.published_lpplusplus import PublishedLPPlusPlus
from fewshot.inference.ensemble import ENSEMBLE_WEIGHTS
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus

WAYS = "zero-shot published paper head head+channel 0+channel 0+GDA blended blended+GDA".split()
# Zero-shot's and the head's shares in the submitted blend; its other two members, made by prompts
# and LoRA, need more than features.
SHARE = ENSEMBLE_WEIGHTS["zero-shot + GDA"] / (
    ENSEMBLE_WEIGHTS["zero-shot + GDA"] + ENSEMBLE_WEIGHTS["+ channel re-weighting"]
)


def load(path: Path) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], tuple, np.ndarray]:
    """{shots: (features, labels)}, (test features, test labels), text. Raises ValueError naming
    the file and what it lacks.
    """
    with np.load(path) as file:
        shots = sorted(int(k[15:-4]) for k in file.files if k.startswith("train_features_"))
        missing = {"text", "test_features", "test_labels"} - set(file.files)
        if missing or not shots:
            raise ValueError(f"{path}: lacks {', '.join(sorted(missing)) or 'train_features_*'}")
        train = {s: (file[f"train_features_{s}shot"], file[f"train_labels_{s}shot"]) for s in shots}
        return train, (file["test_features"], file["test_labels"]), file["text"]


def subset(pair: tuple[np.ndarray, np.ndarray], classes: np.ndarray) -> tuple:
    """The rows of these classes, labels renumbered by their position in `classes` (sorted)."""
    features, labels = pair
    kept = np.isin(labels, classes)
    return features[kept], np.searchsorted(classes, labels[kept])


def logits_of(train: tuple, features: np.ndarray, text: np.ndarray) -> dict[str, np.ndarray]:
    """{way: logits[M,C]} of features[M,E], each fitted to train = (features[N,E], labels[N])."""
    shots, labels = train
    plain = LPPlusPlus(n_iter=0).fit(shots, labels, text)
    ways = {"zero-shot": plain.decision_function(features)}
    for form in ("published", "paper"):
        published = PublishedLPPlusPlus(n_iter=300, clear_alpha_gradient=form == "paper")
        ways[form] = published.fit(shots, labels, text).decision_function(features)
    ways["head"] = LPPlusPlus().fit(shots, labels, text).decision_function(features)
    channel = ChannelReweighting().fit(shots, labels, text)
    changed = channel.transform(shots), labels, channel.transform_text(text)
    rows = channel.transform(features)
    ways["head+channel"] = LPPlusPlus().fit(*changed).decision_function(rows)
    ways["0+channel"] = LPPlusPlus(n_iter=0).fit(*changed).decision_function(rows)
    gauss = GaussianDiscriminant().fit(shots, labels, len(text))
    weight = gauss.fit_weight(plain.decision_function(shots), labels)
    ways["0+GDA"] = ways["zero-shot"] + weight * gauss.decision_function(features)
    for name, other in (("blended", "zero-shot"), ("blended+GDA", "0+GDA")):
        ways[name] = SHARE * ways[other] + (1 - SHARE) * ways["head+channel"]
    return ways


def accuracies(train: tuple, test: tuple, text: np.ndarray) -> np.ndarray:
    """Accuracy in percent of every way, in the order of WAYS."""
    logits = logits_of(train, test[0], text)
    return np.array([100 * (logits[way].argmax(axis=1) == test[1]).mean() for way in WAYS])


def row(name: str, shots: int, values: np.ndarray, note: str = "") -> None:
    """Prints one line of the table."""
    print(f"{name:>8} {shots:>5} " + "".join(f"{v:>13.2f}" for v in values) + note, flush=True)


def main() -> None:
    """Prints the whole set, then subsets of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="features, .npz")
    parser.add_argument("--seeds", type=int, default=0, help="random class subsets of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 98], help="their sizes")
    arguments = parser.parse_args()
    train, test, text = load(arguments.file)
    print(f"{'classes':>8} {'shots':>5} " + "".join(f"{way:>13}" for way in WAYS))
    for shots, pair in train.items():
        row(str(len(text)), shots, accuracies(pair, test, text))
    sizes = [size for size in arguments.sizes if size < len(text)] if arguments.seeds else []
    for size in sizes:
        for shots, pair in train.items():
            results = []
            for seed in range(arguments.seeds):
                drawn = np.random.default_rng(seed).choice(len(text), size, replace=False)
                chosen = np.sort(drawn)
                parts = subset(pair, chosen), subset(test, chosen), text[chosen]
                results.append(accuracies(*parts))
            gains = np.array(results)[:, WAYS.index("blended")] - np.array(results)[:, 0]
            half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
            note = f"   blended - zero-shot {gains.mean():+.2f} +- {half:.2f}"
            row(str(size), shots, np.mean(results, axis=0), note)


if __name__ == "__main__":
    main()
