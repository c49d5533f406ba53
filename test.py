"""python test.py [--field value]...   (python test.py --help shows every field)

Test images and trained parts -> result.txt, result.zip, manifest.json; with labels, scores.json and
one table of what each part brought.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import enter

enter()

import numpy as np  # noqa: E402  (after enter(), which may restart in .venv)

from fewshot import submission  # noqa: E402
from fewshot.ablation import ablation, write_scores  # noqa: E402
from fewshot.auxiliary_stage import auxiliary_encoder  # noqa: E402
from fewshot.classifier import SUBMITTED, Features, class_scores  # noqa: E402
from fewshot.config import as_plain, parse, reported  # noqa: E402
from fewshot.data import ImageItem, read_labels, test_items  # noqa: E402
from fewshot.device import use_device  # noqa: E402
from fewshot.features import Encoder  # noqa: E402
from fewshot.images import SkippedImages  # noqa: E402
from fewshot.inputs import AUXILIARY, find_auxiliary, require  # noqa: E402
from fewshot.lora_stage import tuned_encoder  # noqa: E402
from fewshot.manifest import write_manifest  # noqa: E402
from fewshot.metrics import table  # noqa: E402
from fewshot.stages import read_parts, read_record  # noqa: E402

STAGES = ("text", "prompt", "lora", "head", "channel", "gda")  # and auxiliary, where it was trained


@dataclass(frozen=True)
class Config:
    """Scores test images with the trained parts and writes the submission."""

    split: str = "TestSetB"
    """TestSetA, TestSetB, or a folder or list of images"""
    data: Path = Path("Dataset")
    """the data that the parts were trained on: class lists and test sets"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path = AUXILIARY
    """second, frozen encoder, where the parts were trained with one"""
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


def second_features(encoder: Encoder, config: Config, part: dict, paths: list[Path]) -> np.ndarray:
    """features[N,W] of the auxiliary encoder. Raises ValueError where its file is not the one."""
    file = find_auxiliary(config.auxiliary)
    remedy = f"put it there, or delete {config.parts / 'auxiliary.pkl'} to do without"
    if file is None:
        raise ValueError(f"the parts need the auxiliary weights {config.auxiliary}: {remedy}")
    other = auxiliary_encoder(encoder, file)
    if other.weights_sha256 != part["weights"]:
        raise ValueError(f"{file}: not the auxiliary weights of these parts: {remedy}")
    return other.images(paths)[0]


def main(config: Config) -> None:
    """Encodes, scores, writes, validates; then, with labels, prints the table."""
    tree, weights = require(config.data, config.weights)
    items = test_items(tree, config.split)
    with_auxiliary = (config.parts / "auxiliary.pkl").exists()
    parts = read_parts(config.parts, STAGES + ("auxiliary",) * with_auxiliary)
    if parts["text"]["class_names"] != list(tree.class_names):
        raise ValueError(f"{config.parts}: trained for other classes than those of {config.data}")
    device = use_device(config.device)
    encoder = Encoder(weights, device, config.cache, config.workers, config.batch_size)
    if encoder.weights_sha256 != parts["text"]["meta"]["inputs"]["weights"]:
        raise ValueError(f"{config.parts}: trained with another weight file than {weights}")
    paths = [item.path for item in items]
    plain, broken = encoder.images(paths)
    tuned, _ = tuned_encoder(encoder, parts["lora"]).images(paths)
    second = second_features(encoder, config, parts["auxiliary"], paths) if with_auxiliary else None
    scores = class_scores(Features(plain, tuned, second), parts)
    final = scores[SUBMITTED]

    names = [item.name for item in items]
    skipped = SkippedImages()
    for index, error in sorted(broken.items()):
        skipped.add(names[index], error.cause)
    submission.write(
        config.out / "result.txt", names, submission.top5(final), len(tree.class_names)
    )
    submission.zip_result(config.out / "result.txt", config.out / "result.zip")
    submission.validate(config.out / "result.txt", names, len(tree.class_names), final)
    submission.validate_zip(config.out / "result.zip", names, len(tree.class_names))
    write_manifest(config.out, as_plain(config), encoder, config.parts, parts, skipped)
    print(f"test: {len(names)} images -> {config.out / 'result.txt'}, valid")
    if skipped:
        print(skipped.summary())
    truth = true_labels(items, config.labels)
    if truth is not None:
        rows = ablation(scores, truth, tree, parts, read_record(config.parts))
        write_scores(config.out / "scores.json", rows, len(truth))
        print(f"\naccuracy in percent on {len(truth)} images\n{table(rows)}")


if __name__ == "__main__":
    with reported("test.py"):
        main(parse(Config, sys.argv[1:], "test.py"))
