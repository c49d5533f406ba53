r"""Kills a training at random moments, starts it again, and compares its final files.

    python -m tests.robustness.interrupt --times 10 -- python train.py clip_fewshot \
        --data Dataset/demo --parts {out}/parts --runs {out}/runs --cache {out}/cache ...

The command first runs twice to its end. Then, in a fresh folder for each kill, its process group
gets SIGKILL after a random time of the second run's duration (the first may compile), and the
command runs again to its end. With `--row K` it is killed K times in each folder, after times drawn
from 2/K of that duration. `{out}` in the command stands for the folder. The files that `--compare`
names must then equal the first run's, byte for byte; if not, the status is 1. This module imports
no Jittor, because Jittor ends a process whose child is killed.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPARED = ("**/*.pkl", "**/result.*")  # trained parts, checkpoints and results


def run(command: Sequence[str], folder: Path, until_s: float | None = None) -> float:
    """Runs the command on `folder`, to its end or until it is killed; returns the seconds.

    Appends its output to `folder`.log. Raises RuntimeError if the command fails by itself.
    """
    words = [word.replace("{out}", str(folder)) for word in command]
    started = time.monotonic()
    with folder.with_name(f"{folder.name}.log").open("a") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(until_s)
        except subprocess.TimeoutExpired:
            status = 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        raise RuntimeError(f"the command ended with status {status}: see {log.name}")
    return time.monotonic() - started


def contents(folder: Path, patterns: Iterable[str]) -> dict[str, bytes]:
    """Returns the bytes of the files that match, by their path in `folder`."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def differences(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Returns the names of files that differ or that only one side has."""
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]


@dataclass(frozen=True)
class Kill:
    """One kill and its result."""

    moment_s: float
    in_time: bool  # False if the command had ended by then
    on_disk: list[str]  # the compared files that existed
    differing: list[str]  # files that differ from the first run's after the second start

    def __str__(self) -> str:
        moment = f"after {self.moment_s:.1f} s" + ("" if self.in_time else ", too late")
        verdict = f"{', '.join(self.differing)} differ" if self.differing else "the same"
        return f"{moment}, on disk {', '.join(self.on_disk) or 'nothing'}: {verdict}"


def interrupt(
    command: Sequence[str],
    out: Path,
    moments: Sequence[float],
    patterns: Sequence[str] = COMPARED,
    row: int = 1,
) -> list[Kill]:
    """Kills and restarts the command in folders under `out`; prints one line per kill.

    `moments` are fractions of an uninterrupted run's duration, at which the command is killed.
    `row` of them share one folder, each as a fraction of 2/row of that duration. Raises
    RuntimeError if the command fails by itself, leaves nothing to compare, or writes other bytes
    in its second run.
    """
    out.mkdir(parents=True, exist_ok=True)
    run(command, out / "first")
    whole_s = run(command, out / "second")
    expected = contents(out / "first", patterns)
    if not expected or differences(expected, contents(out / "second", patterns)):
        raise RuntimeError(f"{out}: first and second must hold the same {' and '.join(patterns)}")
    print(f"unbroken: {len(expected)} files in {whole_s:.1f} s, twice the same", flush=True)
    kills = []
    for start in range(0, len(moments), row):
        folder, killed = out / f"kill{start + 1}", []
        for moment in moments[start : start + row]:
            moment_s = moment * whole_s * (2 / row if row > 1 else 1)
            in_time = run(command, folder, moment_s) >= moment_s
            killed.append((moment_s, in_time, list(contents(folder, patterns))))
        run(command, folder)
        differing = differences(expected, contents(folder, patterns))
        for state in killed:
            kills.append(Kill(*state, differing))
            print(f"kill {len(kills)}: {kills[-1]}", flush=True)
    return kills


def main() -> None:
    """Draws the moments, and kills and restarts the command at each of them."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--times", type=int, default=10, help="number of kills")
    parser.add_argument("--row", type=int, default=1, help="kills in a row in one folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills' moments")
    parser.add_argument("--out", type=Path, default=Path("runs/interrupt"), help="folder to fill")
    parser.add_argument("--compare", nargs="+", default=COMPARED, help="glob patterns of files")
    parser.add_argument("command", nargs="+", help="the command after --, with {out} in it")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        sys.exit(f"interrupt: {options.out} is not empty: name another --out")
    draw = random.Random(options.seed)
    moments = [draw.random() for _ in range(options.times)]
    out = options.out.resolve()
    try:
        kills = interrupt(options.command, out, moments, options.compare, options.row)
    except RuntimeError as error:
        sys.exit(f"interrupt: {error}")
    bad = sum(bool(kill.differing) for kill in kills)
    print(f"interrupt: {len(kills) - bad} of {len(kills)} kills ended in the same bytes")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
