"""Repeats the main job over seeds, each with its own split, and prints mean and 95 % interval.

    python -m scripts.sweep --data Dataset/demo --labels Dataset/demo/TestSetB_labels.txt \
        --weights runs/demo/ViT-B-32.pkl --out runs/sweep --seeds 1 2 3 [-- --lora.lr 2e-3 ...]

What follows `--` goes to `train.py clip_fewshot`. Finished stages are kept, so a sweep that was
stopped goes on where it was. The interval is Student's t over seeds.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

from data.few_shot_dataset import open_dataset
from data.few_shot_splits import draw_split, write_split
from fewshot.evaluation.metrics import interval
from runtime.paths import ROOT

Rows = dict[str, dict[str, float]]


def one_seed(given: argparse.Namespace, seed: int) -> tuple[Rows, Rows]:
    """Trains and scores with one seed in `out`/seed<N>; returns both tables of its scores.json.

    Raises SystemExit where a command fails, after its own message.
    """
    folder = given.out / f"seed{seed}"
    tree = open_dataset(given.data)
    split = folder / "split.jsonl"
    write_split(split, draw_split(tree, given.shots, seed), tree, force=True)
    common = ["--data", given.data, "--weights", given.weights, "--parts", folder / "test_pkl"]
    common += ["--cache", given.out / "cache"]
    if given.auxiliary:
        common += ["--auxiliary", given.auxiliary]
    train = ["train.py", "clip_fewshot", *common, "--shots", split, "--runs", folder / "runs"]
    train += ["--seed", seed, *given.fields]
    test = ["test.py", *common, "--images", given.split, "--out", folder, "--labels", given.labels]
    test += ["--seed", seed, "--report", "False", *shlex.split(given.test)]
    for command in (train, test):
        print(f"seed {seed}: {command[0]}", flush=True)
        words = [sys.executable, ROOT / command[0], *command[1:]]
        if subprocess.run([str(word) for word in words], check=False).returncode:
            sys.exit(f"sweep: seed {seed}: {command[0]} failed (see above)")
    scores = json.loads((folder / "scores.json").read_text())
    labels = scores["labels"]
    rows = {labels[id]: row for id, row in scores["rows"].items()}
    return rows, {f"{labels[id]}, end to end": row for id, row in scores["end_to_end"].items()}


def summary(runs: Sequence[Rows]) -> str:
    """Mean and half of the 95 % interval in percent, of every way and every accuracy."""
    ways = [way for way in runs[0] if all(way in run for run in runs)]
    columns = [name for name, value in runs[0][ways[0]].items() if isinstance(value, float)]
    width = max(map(len, ways))
    lines = [" " * width + "".join(f"{name:>16}" for name in columns)]
    for way in ways:
        found = (interval([100 * run[way][name] for run in runs]) for name in columns)
        cells = (f"{mean:.2f} ± {half:.2f}" for mean, half in found)
        lines.append(f"{way:<{width}}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Runs the seeds one after the other and prints the table."""
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("--data", type=Path, required=True, help="data with test labels")
    parser.add_argument("--labels", type=Path, required=True, help='lines of "image label"')
    parser.add_argument("--weights", default="ViT-B-32.pkl", help="CLIP weight file")
    parser.add_argument("--auxiliary", type=Path, help="weight file of the second encoder")
    parser.add_argument("--split", default="TestSetB", help="test images")
    parser.add_argument("--shots", type=int, default=4, help="images a class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder to fill")
    parser.add_argument("--test", default="", help='fields of test.py, as one: "--tta none"')
    parser.add_argument("fields", nargs="*", help="after --: fields of clip_fewshot")
    given = parser.parse_args()
    runs = [one_seed(given, seed) for seed in given.seeds]
    print(f"\naccuracy in percent, mean of seeds {', '.join(map(str, given.seeds))} ± 95 %")
    for tables in zip(*runs, strict=True):
        if all(tables):
            print(summary(tables))


if __name__ == "__main__":
    main()
