"""Kills a training at random moments, starts it again, and compares what it leaves in the end.

    python -m tests.robustness.interrupt --times 10 -- python train.py clip_fewshot --data
    Dataset/demo \
        --parts {out}/parts --runs {out}/runs --cache {out}/cache ...

The command runs twice to its end, then in fresh folders: its whole process group gets SIGKILL after
a time drawn uniformly from the second run's duration (the first may compile), and it is started
again to its end. With `--row K` it is killed K times in each folder before it may end, after times
drawn from 2/K of that duration. `{out}` in the command stands for the folder. The files named by
`--compare` must then be the first run's, byte for byte; ends with status 1 where they are not. This
file imports no Jittor, which ends a process whose child is killed.
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

COMPARED = ("**/*.pkl", "**/result.*")  # trained parts, checkpoints and what is handed in


def run(command: Sequence[str], folder: Path, until_s: float | None = None) -> float:
    """Runs the command on `folder`, to its end or until it is killed; returns the seconds.

    Its output is added to `folder`.log. Raises RuntimeError where it fails by itself.
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
    """The bytes of the files that match, by their path in `folder`."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of files that differ or that only one side has."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


@dataclass(frozen=True)
class Kill:
    """One kill, and what came of it."""

    moment_s: float
    in_time: bool  # False where the command had ended by then
    on_disk: list[str]  # the compared files that were there
    differing: list[str]  # after the second start: files that are not the first run's

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
    """Kills and restarts the command in folders under `out`; prints a line a kill.

    moments: when to kill, as fractions of an unbroken run's duration, or where `row` of them meet
    one folder of 2/row of it. Raises RuntimeError where the command fails by itself, leaves nothing
    to compare, or other bytes at an unbroken second run.
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
        folder, found = out / f"kill{start + 1}", []
        for moment in moments[start : start + row]:
            moment_s = moment * whole_s * (2 / row if row > 1 else 1)
            in_time = run(command, folder, moment_s) >= moment_s
            found.append((moment_s, in_time, list(contents(folder, patterns))))
        run(command, folder)
        differing = differences(expected, contents(folder, patterns))
        for each in found:
            kills.append(Kill(*each, differing))
            print(f"kill {len(kills)}: {kills[-1]}", flush=True)
    return kills


def main() -> None:
    """Draws the moments and runs."""
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("--times", type=int, default=10, help="kills")
    parser.add_argument("--row", type=int, default=1, help="kills in a row in one folder")
    parser.add_argument("--seed", type=int, default=0, help="draws their moments")
    parser.add_argument("--out", type=Path, default=Path("runs/interrupt"), help="folder to fill")
    parser.add_argument("--compare", nargs="+", default=COMPARED, help="glob patterns of files")
    parser.add_argument("command", nargs="+", help="after --: what to run, with {out} in it")
    given = parser.parse_args()
    if given.out.exists() and any(given.out.iterdir()):
        sys.exit(f"interrupt: {given.out} is not empty: name another --out")
    drawn = random.Random(given.seed)
    moments = [drawn.random() for _ in range(given.times)]
    try:
        kills = interrupt(given.command, given.out.resolve(), moments, given.compare, given.row)
    except RuntimeError as error:
        sys.exit(f"interrupt: {error}")
    bad = sum(bool(kill.differing) for kill in kills)
    print(f"interrupt: {len(kills) - bad} of {len(kills)} kills ended in the same bytes")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
