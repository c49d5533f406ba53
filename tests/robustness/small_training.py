"""A small training that the tests of faults start, stop and compare."""

import json
import os
import re
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
    """Returns the words that train a linear layer on the features of an untrained network."""
    words = [ROOT / "train.py", "linear_eval", *FIELDS, "--root", root, "--out", out, *fields]
    return list(map(str, words))


def begin(words, *, environment=None):
    """Starts Python with these words."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Returns (status, stderr) of a process that ends by itself.

    Jittor writes lines of progress there if it compiles for seconds; they are left out.
    """
    errors = process.communicate(timeout=500)[1]
    return process.returncode, re.sub(r"\n?(Compiling Operators\([^\n]*\n?)+", "", errors)


def run(words, **options):
    """Runs Python with these words; returns (status, stderr)."""
    return end(begin(words, **options))


def until(process, words):
    """Reads the process's lines up to the first one that contains `words`."""
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended before {words!r}: {process.stderr.read()}")


def contents(out):
    """Returns the files that two runs of one command have in common, wherever they ran."""
    files = {name: (out / "scratch" / name).read_bytes() for name in COMPARED}
    return files | {"result": json.loads((out / "scratch/result.json").read_text())["result"]}


def left_over(folder):
    """Returns temporary files and locks below a folder."""
    return [path for path in folder.rglob(".*") if path.suffix == ".tmp" or ".lock" in path.name]
