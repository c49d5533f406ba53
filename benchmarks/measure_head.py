"""Measures classifiers on CLIP features: `python benchmarks/measure_head.py FEATURES.npz`.

The file holds text[C,E], train_features_{S}shot[N,E] and train_labels_{S}shot[N] for one or more S,
test_features[M,E] and test_labels[M]. The table has the accuracy in percent on the test features
for each S, with default settings; nothing is chosen on test labels. With --seeds it also has the
mean accuracy over random class subsets; "gain" is the mean of blended minus zero-shot with its 95 %
interval. 196 classes and a few subsets take one or two minutes.

The columns:
zero-shot               CLIP's class texts alone
published, paper        LP++ by its public code and by its paper, 300 updates each
head                    the kit's LP++
head+channel            the same on re-weighted channels
0+channel, 0+GDA        zero-shot on re-weighted channels, and next to the Gaussian discriminant
blended, blended+GDA    zero-shot or 0+GDA, and head+channel, in the shares of the ensemble
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np
from tyro.conf import Positional

from benchmarks.published_lpplusplus import PublishedLPPlusPlus
from engine.config import parse
from fewshot.inference.classifiers import ENSEMBLE_WEIGHTS
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus
from runtime.table import table

CLASSIFIERS = (
    "zero-shot published paper head head+channel 0+channel 0+GDA blended blended+GDA".split()
)
# The share of zero-shot + GDA in the ensemble without its members of prompts and LoRA, which need
# more than features.
SHARE = ENSEMBLE_WEIGHTS["gda"] / (ENSEMBLE_WEIGHTS["gda"] + ENSEMBLE_WEIGHTS["channel"])


def load(path: Path) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], tuple, np.ndarray]:
    """Returns {shots: (features, labels)}, (test features, test labels), and the text features.

    Raises ValueError if the file lacks an array.
    """
    with np.load(path) as file:
        shots = sorted(int(k[15:-4]) for k in file.files if k.startswith("train_features_"))
        missing = {"text", "test_features", "test_labels"} - set(file.files)
        if missing or not shots:
            raise ValueError(f"{path}: lacks {', '.join(sorted(missing)) or 'train_features_*'}")
        train = {s: (file[f"train_features_{s}shot"], file[f"train_labels_{s}shot"]) for s in shots}
        return train, (file["test_features"], file["test_labels"]), file["text"]


def subset(pair: tuple[np.ndarray, np.ndarray], classes: np.ndarray) -> tuple:
    """Returns the rows of these sorted classes; their labels become positions in `classes`."""
    features, labels = pair
    chosen = np.isin(labels, classes)
    return features[chosen], np.searchsorted(classes, labels[chosen])


def logits_by_classifier(
    train: tuple, features: np.ndarray, text: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns {classifier: logits[M,C]} of features[M,E].

    Each classifier is fitted to train = (features[N,E], labels[N]).
    """
    shots, labels = train
    zero_shot = LPPlusPlus(n_iter=0).fit(shots, labels, text)
    logits = {"zero-shot": zero_shot.decision_function(features)}
    for form in ("published", "paper"):
        published = PublishedLPPlusPlus(n_iter=300, clear_alpha_gradient=form == "paper")
        logits[form] = published.fit(shots, labels, text).decision_function(features)
    logits["head"] = LPPlusPlus().fit(shots, labels, text).decision_function(features)
    channel = ChannelReweighting().fit(shots, labels, text)
    weighted = channel.transform(shots), labels, channel.transform_text(text)
    rows = channel.transform(features)
    logits["head+channel"] = LPPlusPlus().fit(*weighted).decision_function(rows)
    logits["0+channel"] = LPPlusPlus(n_iter=0).fit(*weighted).decision_function(rows)
    gauss = GaussianDiscriminant().fit(shots, labels, len(text))
    weight = gauss.fit_weight(zero_shot.decision_function(shots), labels)
    logits["0+GDA"] = logits["zero-shot"] + weight * gauss.decision_function(features)
    for name, member in (("blended", "zero-shot"), ("blended+GDA", "0+GDA")):
        logits[name] = SHARE * logits[member] + (1 - SHARE) * logits["head+channel"]
    return logits


def accuracies(train: tuple, test: tuple, text: np.ndarray) -> np.ndarray:
    """Returns the accuracy in percent of each classifier, in the order of CLASSIFIERS."""
    logits = logits_by_classifier(train, test[0], text)
    return np.array([100 * (logits[name].argmax(axis=1) == test[1]).mean() for name in CLASSIFIERS])


def subset_row(train: tuple, test: tuple, text: np.ndarray, size: int, seeds: int) -> list:
    """Returns the mean accuracies over random subsets of `size` classes, and the gain."""
    results = []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).choice(len(text), size, replace=False)
        chosen = np.sort(drawn)
        results.append(accuracies(subset(train, chosen), subset(test, chosen), text[chosen]))
    gains = np.array(results)[:, CLASSIFIERS.index("blended")] - np.array(results)[:, 0]
    half = 1.96 * gains.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
    return [*np.mean(results, axis=0), f"{gains.mean():+.2f} ± {half:.2f}"]


@dataclass(frozen=True)
class Config:
    """Measures classifiers on CLIP features."""

    file: Positional[Path]
    """features, .npz"""
    seeds: int = 0
    """number of random class subsets of each size"""
    sizes: tuple[int, ...] = (20, 50, 98)
    """numbers of classes in a subset"""


def main() -> None:
    """Prints a row for all classes and each number of shots, then the rows of class subsets."""
    config = parse(Config, sys.argv[1:], "measure_head")
    train, test, text = load(config.file)
    rows: list[list] = [
        [len(text), shots, *accuracies(pair, test, text)] for shots, pair in train.items()
    ]
    header = ["classes", "shots", *CLASSIFIERS]
    if config.seeds:
        header.append("gain")
        rows = [[*row, None] for row in rows]
    sizes = [size for size in config.sizes if size < len(text)] if config.seeds else []
    for size in sizes:
        for shots, pair in train.items():
            rows.append([size, shots, *subset_row(pair, test, text, size, config.seeds)])
    print(table(rows, header))


if __name__ == "__main__":
    main()
