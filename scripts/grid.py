"""Runs a baseline recipe over a grid of fields and seeds, and prints one table.

    python -m scripts.grid caltech_finetune --phase resnet18 --axis lr 3e-4 1e-3 --seeds 1 2 3 \
        -- --root Dataset/caltech-101
    python -m scripts.grid simclr --axis lr 0.3 0.6 --axis batch_size 256 512 \
        --then "linear_eval --root Dataset/cifar10" --phase self_supervised -- --epochs 100

The words after `--` go to the recipe. `--then` runs a second recipe on the `encoder.pkl` that the
first one leaves. Each combination has its own folder with the recipe's result, so a grid that was
stopped continues. The table, also written as `table.csv`, has the mean over the seeds and half of
its 95 % interval (Student's t).
"""

import csv
import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

from tyro.conf import Positional, UseAppendAction

from engine.config import parse, split_arguments
from fewshot.evaluation.metrics import interval
from runtime.files import atomic_write
from runtime.paths import ROOT
from runtime.signals import STATUS
from runtime.table import table


@dataclass(frozen=True)
class Config:
    """Runs a baseline recipe over a grid; words after -- go to the recipe."""

    recipe: Positional[str]
    """recipe of train.py that leaves a result"""
    phase: str
    """folder of the result, as the recipe prints it"""
    out: Path = Path("runs/grid")
    """folder to fill, with one folder per combination"""
    axis: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """a field of the recipe and its values; give one --axis per field"""
    then: str = ""
    """second recipe and its fields, as one word"""
    seeds: tuple[int, ...] = (1,)
    """seeds to average over"""


def result_of(config: Config, fields: Sequence[str], point: dict[str, str], seed: int) -> dict:
    """Trains and tests one combination, and returns its result.

    point: {field: value} on the grid's axes; fields: words that every combination gets. Raises
    SystemExit if a recipe fails or was stopped.
    """
    name = ",".join(f"{field}={value}".replace("/", "_") for field, value in point.items())
    name = name or "plain"
    folder = config.out / name / f"seed{seed}"
    words = [word for field, value in point.items() for word in (f"--{field}", value)]
    common = ["--out", str(folder), "--seed", str(seed)]
    commands = [[config.recipe, *fields, *words, *common]]
    if config.then:
        encoder = ["--encoder", str(folder / "encoder.pkl")]
        commands.append([*shlex.split(config.then), *common, *encoder])
    print(f"grid: {name}, seed {seed}", flush=True)
    for command in commands:
        train = [sys.executable, str(ROOT / "train.py"), *command]
        status = subprocess.run(train, check=False).returncode
        if status in STATUS.values():  # a signal stopped it, and it has said so
            sys.exit(status)
        if status:
            sys.exit(f"grid: train.py {' '.join(command)} failed (see above)")
    path = folder / config.phase / "result.json"
    if not path.exists():
        phases = ", ".join(sorted(p.parent.name for p in folder.glob("*/result.json"))) or "none"
        sys.exit(f"grid: {path} is missing; --phase names one of those with a result: {phases}")
    return json.loads(path.read_text(encoding="utf-8"))["result"]


def row_of(point: dict[str, str], results: Sequence[dict]) -> dict[str, str]:
    """Returns a row of the table: the point on the grid, and each accuracy over the seeds."""
    row = dict(point)
    for name in [name for name, value in results[0].items() if isinstance(value, float)]:
        mean, half = interval([100 * result[name] for result in results])
        row[name] = f"{mean:.2f}" if len(results) == 1 else f"{mean:.2f} ± {half:.2f}"
    return row


def main(arguments: list[str]) -> None:
    """Runs every combination, writes table.csv and prints it."""
    own_arguments, fields = split_arguments(arguments)
    config = parse(Config, own_arguments, "grid")
    names = [name for name, *_ in config.axis]
    rows = []
    for values in itertools.product(*(values for _, *values in config.axis)):
        point = dict(zip(names, values, strict=True))
        rows.append(row_of(point, [result_of(config, fields, point, s) for s in config.seeds]))
    with atomic_write(config.out / "table.csv") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"\ntest scores in percent, seeds {', '.join(map(str, config.seeds))}")
    print(table([list(row.values()) for row in rows], list(rows[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
