"""Repeats the main job over seeds, each with its own shots, and prints mean and 95 % interval.

    python -m scripts.sweep --data Dataset/demo --labels Dataset/demo/TestSetB_labels.txt \
        --weights runs/demo/ViT-B-32.pkl --out runs/sweep --seeds 1 2 3 [-- --lora.lr 2e-3 ...]

The words after `--` go to `train.py clip_fewshot`. Finished stages are kept, so a sweep that was
stopped continues. The interval is Student's t over the seeds.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

from data.few_shot_dataset import open_dataset
from data.few_shot_splits import draw_split, write_split
from engine.config import parse, split_arguments
from engine.session import exit_on_error
from fewshot.evaluation.metrics import interval
from runtime.paths import ROOT
from runtime.table import table

Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Config:
    """Repeats the main job over seeds; words after -- go to train.py clip_fewshot."""

    data: Path
    """data set whose test images have labels"""
    labels: Path
    """lines of "image label" for the test images"""
    weights: str = "ViT-B-32.pkl"
    """CLIP weight file, or the name of an official model"""
    auxiliary: Path | None = None
    """weight file of the second encoder"""
    images: str = "TestSetB"
    """test images: TestSetA, TestSetB, or a folder or list of images"""
    shots_per_class: int = 4
    """images to draw per class for training"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds of the draw and of the training"""
    out: Path = Path("runs/sweep")
    """folder to fill, with one folder per seed"""
    test: str = ""
    """fields of test.py as one word, such as '--tta none'"""


def run_seed(config: Config, fields: Sequence[str], seed: int) -> tuple[Rows, Rows]:
    """Trains and scores with one seed in `out`/seed<N>; returns both tables of its scores.json.

    fields: of clip_fewshot. Raises SystemExit if a command fails, which has printed its message.
    """
    folder = config.out / f"seed{seed}"
    dataset = open_dataset(config.data)
    shots = folder / "split.jsonl"
    write_split(shots, draw_split(dataset, config.shots_per_class, seed), dataset, force=True)
    common: list[object] = ["--data", config.data, "--weights", config.weights]
    common += ["--parts", folder / "test_pkl", "--cache", config.out / "cache", "--seed", seed]
    if config.auxiliary:
        common += ["--auxiliary", config.auxiliary]
    train = ["train.py", "clip_fewshot", *common, "--shots", shots, "--runs", folder / "runs"]
    test = ["test.py", *common, "--images", config.images, "--labels", config.labels]
    test += ["--out", folder, "--report", "False", *shlex.split(config.test)]
    for script, *words in ([*train, *fields], test):
        print(f"seed {seed}: {script}", flush=True)
        command = [sys.executable, str(ROOT / str(script)), *map(str, words)]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"sweep: seed {seed}: {script} failed (see above)")
    scores = json.loads((folder / "scores.json").read_text())
    labels = scores["labels"]
    rows = {labels[id]: row for id, row in scores["rows"].items()}
    return rows, {f"{labels[id]}, end to end": row for id, row in scores["end_to_end"].items()}


def summary(runs: Sequence[Rows]) -> str:
    """Returns a table in percent: mean and half of the 95 % interval of every accuracy.

    Its rows are those that all runs have.
    """
    names = [name for name in runs[0] if all(name in run for run in runs)]
    columns = [name for name, value in runs[0][names[0]].items() if isinstance(value, float)]
    lines = []
    for name in names:
        intervals = [interval([100 * run[name][column] for run in runs]) for column in columns]
        lines.append([name, *(f"{mean:.2f} ± {half:.2f}" for mean, half in intervals)])
    return table(lines, ["", *columns])


def main(arguments: list[str]) -> None:
    """Runs the seeds one after the other and prints the tables."""
    own_arguments, fields = split_arguments(arguments)
    if "--test" in own_arguments:  # its value starts with --, so tyro would take it for a field
        index = own_arguments.index("--test")
        own_arguments[index : index + 2] = ["=".join(own_arguments[index : index + 2])]
    config = parse(Config, own_arguments, "sweep")
    with exit_on_error("sweep"):
        runs = [run_seed(config, fields, seed) for seed in config.seeds]
    print(f"\naccuracy in percent, mean of seeds {', '.join(map(str, config.seeds))} ± 95 %")
    for tables in zip(*runs, strict=True):
        if all(tables):
            print(summary(tables))


if __name__ == "__main__":
    main(sys.argv[1:])
