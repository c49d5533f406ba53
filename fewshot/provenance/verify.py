"""Does a run give again what its manifest says? Reading the manifest, and the verdict."""

import json
from itertools import zip_longest
from pathlib import Path

from fewshot.provenance.files import MANIFEST
from runtime.files import printable
from weight_files.hashing import sha256_of

# what results follow from
CAUSES = ("inputs", "looks", "versions", "commit", "code", "device", "precision")
SHOWN = 3  # lines of a result that are quoted


def read_manifest(path: Path) -> dict:
    """The record. Raises ValueError where the file is none of this kit's manifests."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"config": dict, "inputs": dict, "result": dict, "versions": dict}
        if not isinstance(record, dict) or not all(
            isinstance(record.get(name), kind) for name, kind in kinds.items()
        ):
            raise ValueError("lacks what a run writes")
        if not {"result.txt", "result.zip"} <= set(record["result"]):
            raise ValueError("names no result.txt and result.zip")
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{path}: no manifest of a test run ({reason})") from error
    return record


def verdict(manifest: Path, folder: Path) -> list[str]:
    """What differs between the run that `manifest` describes and the one in `folder`, a line each;
    empty where the results are the same bytes.

    What a result follows from is compared only where the results differ: the likely causes.
    """
    before, now = read_manifest(manifest), read_manifest(folder / MANIFEST)
    files = [name for name in before["result"] if before["result"][name] != now["result"].get(name)]
    if not files:
        return []
    lines = [f"{name}: other bytes" for name in files]
    lines += _result_lines(manifest.parent, before, folder)
    causes = _changes(*({name: run.get(name) for name in CAUSES} for run in (before, now)))
    return lines + (causes or [f"the same: {', '.join(CAUSES)}"])


def _result_lines(beside: Path, before: dict, folder: Path) -> list[str]:
    """The first lines of result.txt that differ, where the first run's file still lies there."""
    old, new = beside / "result.txt", folder / "result.txt"
    if not old.is_file() or sha256_of(old) != before["result"]["result.txt"]:
        return [f"{old}: not the result of that manifest, so lines cannot be compared"]
    rows = [path.read_bytes().decode("utf-8", "surrogateescape").split("\n") for path in (old, new)]
    pairs = enumerate(zip_longest(*rows, fillvalue="(nothing)"), 1)
    wrong = [(number, *pair) for number, pair in pairs if pair[0] != pair[1]]
    lines = [f"line {n}: {one!r} then, {two!r} now" for n, one, two in wrong[:SHOWN]]
    more = [f"and {len(wrong) - SHOWN} more lines"] if len(wrong) > SHOWN else []
    return [printable(line) for line in lines] + more


def _changes(before: dict, now: dict) -> list[str]:
    """Entries that differ, those of dictionaries inside one by one."""
    lines = []
    for name in sorted({*before, *now}):
        one, two = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(two, dict):
            lines += [f"{name}: {line}" for line in _changes(one, two)]
        elif one != two:
            lines.append(f"{name}: {one} then, {two} now")
    return lines
