"""Reads a manifest, and compares the run that it describes with a run that repeats it."""

import json
from itertools import zip_longest
from pathlib import Path

from fewshot.provenance.files import MANIFEST
from runtime.files import printable
from weight_files.hashing import sha256_of

# the entries of a manifest that a result depends on
CAUSES = ("inputs", "inference", "versions", "commit", "code", "device", "precision")
SHOWN = 3  # lines of a result that are quoted


def read_manifest(path: Path) -> dict:
    """Reads a manifest. Raises ValueError naming a file that is no manifest of a test run."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"config": dict, "inputs": dict, "result": dict, "versions": dict}
        if not isinstance(record, dict) or not all(
            isinstance(record.get(name), kind) for name, kind in kinds.items()
        ):
            raise ValueError(f"it lacks {', '.join(kinds)}")
        if not {"result.txt", "result.zip"} <= set(record["result"]):
            raise ValueError("it names no result.txt and result.zip")
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: no manifest of a test run ({reason})") from error
    if "looks" in record:  # its name before version 2
        record["inference"] = record.pop("looks")
    return record


def compare_results(manifest: Path, folder: Path) -> list[str]:
    """Compares the run that `manifest` describes with the run in `folder`.

    Returns a line per difference; none if the results are the same bytes. What results depend on is
    compared only if the results differ, to name likely causes.
    """
    before, now = read_manifest(manifest), read_manifest(folder / MANIFEST)
    files = [name for name in before["result"] if before["result"][name] != now["result"].get(name)]
    if not files:
        return []
    lines = [f"{name}: the bytes differ" for name in files]
    lines += _lines_that_differ(manifest.parent, before, folder)
    causes = _changes(*({name: run.get(name) for name in CAUSES} for run in (before, now)))
    return lines + (causes or [f"nothing else differs: {', '.join(CAUSES)}"])


def _lines_that_differ(old_folder: Path, before: dict, folder: Path) -> list[str]:
    """Quotes the first lines of result.txt that differ, if the first run's file is still there."""
    old, new = old_folder / "result.txt", folder / "result.txt"
    if not old.is_file() or sha256_of(old) != before["result"]["result.txt"]:
        return [f"{old}: is not the result of that manifest, so its lines cannot be compared"]
    rows = [path.read_bytes().decode("utf-8", "surrogateescape").split("\n") for path in (old, new)]
    pairs = enumerate(zip_longest(*rows, fillvalue="(nothing)"), 1)
    differing = [(number, *pair) for number, pair in pairs if pair[0] != pair[1]]
    lines = [f"line {n}: was {one!r}, is now {two!r}" for n, one, two in differing[:SHOWN]]
    if len(differing) > SHOWN:
        lines.append(f"and {len(differing) - SHOWN} more lines")
    return [printable(line) for line in lines]


def _changes(before: dict, now: dict) -> list[str]:
    """Returns a line per entry that differs; dictionaries inside are compared entry by entry."""
    lines = []
    for name in sorted({*before, *now}):
        one, two = before.get(name, "absent"), now.get(name, "absent")
        if isinstance(one, dict) and isinstance(two, dict):
            lines += [f"{name}: {line}" for line in _changes(one, two)]
        elif one != two:
            lines.append(f"{name}: was {one}, is now {two}")
    return lines
