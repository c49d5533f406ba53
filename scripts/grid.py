"""Runs a baseline recipe over a grid of fields and seeds, and prints one table.

    python -m scripts.grid caltech_finetune --phase resnet18 --axis lr 3e-4 1e-3 --seeds 1 2 3 \
        -- --root Dataset/caltech-101
    python -m scripts.grid simclr --axis lr 0.3 0.6 --axis batch_size 256 512 \
        --then "linear_eval --root Dataset/cifar10" --phase self_supervised -- --epochs 100

`--then` runs a second recipe on the `encoder.pkl` that the first one left.
Each combination has a folder of its own, in which the recipe keeps its result: a grid that was
stopped goes on where it was. The table, also as `table.csv`, has the mean over seeds and half of
its 95 % interval (Student's t).
"""

import argparse
import csv
import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

from fewshot.evaluation.metrics import interval
from runtime.files import atomic_write
from runtime.paths import ROOT


def result_of(given: argparse.Namespace, fields: dict[str, str], seed: int) -> dict:
    """Trains and tests one combination. Raises SystemExit where the recipe fails."""
    name = ",".join(f"{field}={value}".replace("/", "_") for field, value in fields.items())
    folder = given.out / (name or "plain") / f"seed{seed}"
    words = [word for field, value in fields.items() for word in (f"--{field}", value)]
    command = [sys.executable, str(ROOT / "train.py"), given.recipe, *given.fields, *words]
    command += ["--out", str(folder), "--seed", str(seed)]
    commands = [command]
    if given.then:
        commands.append([*command[:2], *shlex.split(given.then), *command[-4:]])
        commands[1] += ["--encoder", str(folder / "encoder.pkl")]
    print(f"grid: {name or 'plain'}, seed {seed}", flush=True)
    for command in commands:
        status = subprocess.run(command, check=False).returncode
        if status in (75, 130):  # it was stopped, and said so: runtime/signals.py
            sys.exit(status)
        if status:
            sys.exit(f"grid: {' '.join(command[1:])} failed (see above)")
    path = folder / given.phase / "result.json"
    if not path.exists():
        made = ", ".join(sorted(p.parent.name for p in folder.glob("*/result.json"))) or "none"
        sys.exit(f"grid: {path} is missing; --phase names one of those with a result: {made}")
    return json.loads(path.read_text(encoding="utf-8"))["result"]


def main() -> None:
    """Runs every combination and prints the table."""
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("recipe", help="a recipe of train.py that leaves a result")
    parser.add_argument("--phase", required=True, help="folder of the result, as the recipe prints")
    parser.add_argument("--out", type=Path, default=Path("runs/grid"), help="folder to fill")
    parser.add_argument("--axis", nargs="+", action="append", default=[], help="field and values")
    parser.add_argument("--then", default="", help="a second recipe with its fields, as one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.epilog = "what follows -- goes to the recipe"
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:split])
    given.fields = sys.argv[split + 1 :]
    names = [axis[0] for axis in given.axis]
    rows = []
    for values in itertools.product(*(axis[1:] for axis in given.axis)):
        fields = dict(zip(names, values, strict=True))
        results = [result_of(given, fields, seed) for seed in given.seeds]
        shares = [name for name, value in results[0].items() if isinstance(value, float)]
        row = dict(fields)
        for share in shares:
            mean, half = interval([100 * result[share] for result in results])
            row[share] = f"{mean:.2f}" if len(results) == 1 else f"{mean:.2f} ± {half:.2f}"
        rows.append(row)
    with atomic_write(given.out / "table.csv") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"\ntest scores in percent, seeds {', '.join(map(str, given.seeds))}")
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(f"{row[name]:>16}" for name in rows[0]))


if __name__ == "__main__":
    main()
