"""A small training that the tests of faults start, stop and compare."""

import json
import os
import resource
import subprocess
import sys

from runtime.paths import ROOT

EPOCHS = 120
PROGRAM = "train.py linear_eval"
FIELDS = ["--dataset", "folder", "--workers", "0", "--device", "cpu", "--val_share", "0.25"]
FIELDS += ["--source", "scratch", "--image_size", "8", "--batch_size", "4"]
FIELDS += ["--epochs", str(EPOCHS)]
COMPARED = ("checkpoint.pkl", "best.pkl", "metrics.jsonl", "confusion.csv", "curves.png")
MEMORY = resource.RLIMIT_AS


def command(root, out, *fields):
    """A small training: a linear layer on the features of a network as it was drawn."""
    words = [ROOT / "train.py", "linear_eval", *FIELDS, "--root", root, "--out", out, *fields]
    return list(map(str, words))


def begin(words, *, environment=None):
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """(status, stderr) of a process that ends by itself."""
    said = process.communicate(timeout=500)[1]
    return process.returncode, said


def run(words, **options):
    return end(begin(words, **options))


def until(process, words):
    """Reads the process's lines up to the first one that holds `words`."""
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended before {words!r}: {process.stderr.read()}")


def contents(out):
    """What two runs of one command have in common, wherever they ran."""
    files = {name: (out / "scratch" / name).read_bytes() for name in COMPARED}
    return files | {"result": json.loads((out / "scratch/result.json").read_text())["result"]}


def left_over(folder):
    """Temporary files and locks below a folder."""
    return [path for path in folder.rglob(".*") if path.suffix == ".tmp" or ".lock" in path.name]
