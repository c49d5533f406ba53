"""Measures the LP++ head on a file of CLIP features: `python tools/measure_head.py FEATURES.npz`.

The file holds text[C,E], train_features_{S}shot[N,E] and train_labels_{S}shot[N] for one or more
S, test_features[M,E] and test_labels[M]. Prints accuracy in percent on the test features for every
S (default settings, nothing chosen on test labels), then the mean and 95% interval of the gain
over random class subsets. Two minutes or so for 196 classes with two subsets a size; progress
comes a line at a time.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import runtime  # noqa: E402, F401
from models.head import LPPlusPlus  # noqa: E402

WAYS = {
    "zero-shot": LPPlusPlus(n_iter=0),
    "published": LPPlusPlus(n_iter=300, form="published"),
    "ours": LPPlusPlus(),
}


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


def accuracies(train: tuple, test: tuple, text: np.ndarray) -> np.ndarray:
    """Accuracy in percent of every way, in the order of WAYS."""
    heads = (head.fit(*train, text) for head in WAYS.values())
    return np.array([100 * (head.predict(test[0]) == test[1]).mean() for head in heads])


def row(name: str, shots: int, values: np.ndarray, note: str = "") -> None:
    """Prints one line of the table."""
    print(f"{name:>8} {shots:>5} " + "".join(f"{v:>11.2f}" for v in values) + note, flush=True)


def main() -> None:
    """Prints the whole set, then subsets of classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="features, .npz")
    parser.add_argument("--seeds", type=int, default=0, help="random class subsets of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 98], help="their sizes")
    arguments = parser.parse_args()
    train, test, text = load(arguments.file)
    print(f"{'classes':>8} {'shots':>5} " + "".join(f"{way:>11}" for way in WAYS))
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
            gains = np.array(results)[:, -1] - np.array(results)[:, 0]
            half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
            note = f"   ours - zero-shot {gains.mean():+.2f} +- {half:.2f}"
            row(str(size), shots, np.mean(results, axis=0), note)


if __name__ == "__main__":
    main()
