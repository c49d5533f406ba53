"""python test.py [--field value]...   (python test.py --help shows every field)

Test images and trained parts -> result.txt, result.zip, manifest.json.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import enter

enter()

import numpy as np  # noqa: E402  (after enter(), which may restart in .venv)

from fewshot import submission  # noqa: E402
from fewshot.classifier import class_scores  # noqa: E402
from fewshot.config import as_plain, parse, reported  # noqa: E402
from fewshot.data import ImageItem, Tree, read_labels, test_items  # noqa: E402
from fewshot.device import use_device  # noqa: E402
from fewshot.features import Encoder  # noqa: E402
from fewshot.images import SkippedImages  # noqa: E402
from fewshot.inputs import require  # noqa: E402
from fewshot.manifest import write_manifest  # noqa: E402
from fewshot.metrics import accuracy_within, table  # noqa: E402
from fewshot.stages import read_part  # noqa: E402
from models.head import LPPlusPlus  # noqa: E402


@dataclass(frozen=True)
class Config:
    """Scores test images with the trained parts and writes the submission."""

    split: str = "TestSetB"
    """TestSetA, TestSetB, or a folder or list of images"""
    data: Path = Path("Dataset")
    """the data that the parts were trained on: class lists and test sets"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    parts: Path = Path("test_pkl")
    """folder of the trained parts"""
    out: Path = Path(".")
    """folder for result.txt, result.zip and manifest.json"""
    labels: Path | None = None
    """lines of "image label", to print accuracies; read after the result is written"""
    cache: Path = Path("cache")
    """folder for cached features"""
    workers: int = 0
    """threads that decode images, 0 for none"""
    batch_size: int = 32
    """images decoded ahead at a time; changes no result"""
    device: str = "auto"
    """auto, cpu or cuda"""


def true_labels(items: list[ImageItem], labels: Path | None) -> np.ndarray | None:
    """labels[N] from the file, else from a layout that gives them, else None."""
    if labels:
        known = read_labels(labels)
        missing = [item.name for item in items if item.name not in known]
        if missing:
            more = f" and {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise ValueError(f"{labels}: no label for {missing[0]}{more}")
        return np.array([known[item.name] for item in items])
    if all(item.label is not None for item in items):
        return np.array([item.label for item in items])
    return None


def print_scores(scores: dict[str, np.ndarray], truth: np.ndarray, tree: Tree) -> None:
    """Prints base, new and overall accuracy of each way to score; new only where there are any."""
    ids = {"base": tree.base_ids, "new": tree.new_ids, "all": range(len(tree.class_names))}
    rows = {
        way: {
            column: accuracy_within(values, truth, among) for column, among in ids.items() if among
        }
        for way, values in scores.items()
    }
    print(f"\naccuracy in percent on {len(truth)} images\n{table(rows)}")


def main(config: Config) -> None:
    """Encodes, scores, writes, validates; then, with labels, prints the table."""
    tree, weights = require(config.data, config.weights)
    items = test_items(tree, config.split)
    parts = {config.parts / f"{stage}.pkl": stage for stage in ("text", "head")}
    parts = {path: read_part(path, stage) for path, stage in parts.items()}
    text, head = parts.values()
    if text["class_names"] != list(tree.class_names):
        raise ValueError(f"{config.parts}: trained for other classes than those of {config.data}")
    if head["meta"]["inputs"]["text"] != text["meta"]["key"]:
        raise ValueError(f"{config.parts}: head.pkl was trained with another text.pkl")
    device = use_device(config.device)
    encoder = Encoder(weights, device, config.cache, config.workers, config.batch_size)
    if encoder.weights_sha256 != text["meta"]["inputs"]["weights"]:
        raise ValueError(f"{config.parts}: trained with another weight file than {weights}")
    features, broken = encoder.images([item.path for item in items])
    scores = class_scores(
        features, text["text_features"], LPPlusPlus.from_state(head["state"]), head["base_ids"]
    )

    names = [item.name for item in items]
    skipped = SkippedImages()
    for index, error in sorted(broken.items()):
        skipped.add(names[index], error.cause)
    ids = submission.top5(scores["head"])
    submission.write(config.out / "result.txt", names, ids, len(tree.class_names))
    submission.zip_result(config.out / "result.txt", config.out / "result.zip")
    submission.validate(config.out / "result.txt", names, len(tree.class_names), scores["head"])
    submission.validate_zip(config.out / "result.zip", names, len(tree.class_names))
    write_manifest(config.out, as_plain(config), encoder, parts, skipped)
    print(f"test: {len(names)} images -> {config.out / 'result.txt'}, valid")
    if skipped:
        print(skipped.summary())
    truth = true_labels(items, config.labels)
    if truth is not None:
        print_scores(scores, truth, tree)


if __name__ == "__main__":
    with reported("test.py"):
        main(parse(Config, sys.argv[1:], "test.py"))
