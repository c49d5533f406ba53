"""One table of what each part brought: accuracy, what it trained, and how long that took."""

import json
import math
from pathlib import Path

import numpy as np

from fewshot.classifier import SUBMITTED, WITHOUT
from fewshot.data import Tree
from fewshot.files import atomic_write
from fewshot.metrics import accuracy_within
from fewshot.stages import Parts
from fewshot.text import domain_and_words

STAGE_OF = {  # the stage that made the last part of each way to score
    "zero-shot": "text",
    "+ prompt queue": "prompt",
    "+ LoRA": "lora",
    "+ LP++": "head",
    "+ channel re-weighting": "channel",
    "zero-shot + GDA": "gda",
    "+ auxiliary": "auxiliary",
}


def groups(tree: Tree) -> dict[str, tuple[list[int], list[int]]]:
    """Columns: (classes whose images count, classes chosen among).

    base, the domains of the base classes if several (chosen among all base classes), new, all.
    """
    base, new = list(tree.base_ids), list(tree.new_ids)
    domains: dict[str, list[int]] = {}
    for k in base:
        domains.setdefault(domain_and_words(tree, tree.class_names[k])[0], []).append(k)
    columns = {"base": (base, base)}
    columns |= {name: (ids, base) for name, ids in domains.items() if len(domains) > 1}
    every = list(range(len(tree.class_names)))
    return columns | ({"new": (new, new)} if new else {}) | {"all": (every, every)}


def ablation(
    scores: dict[str, np.ndarray], truth: np.ndarray, tree: Tree, parts: Parts, record: dict
) -> dict[str, dict[str, float | int]]:
    """A row for each way to score: accuracies as fractions, trained numbers, seconds.

    scores: {way: [N,C]}, truth[N]; record: what `stages.read_record` returns. Numbers and seconds
    are those of the way's own stage, for what is submitted the sums; seconds are whole. What the
    blend would be without a member has accuracies only; a column without images is left out.
    """
    columns = groups(tree)
    rows = {}
    for way, values in scores.items():
        found = {name: accuracy_within(values, truth, *ids) for name, ids in columns.items()}
        row = {name: value for name, value in found.items() if not math.isnan(value)}
        rows[way] = row
        if way.startswith(WITHOUT):
            continue
        stages = tuple(parts) if way == SUBMITTED else (STAGE_OF[way],)
        row["trained"] = sum(parts[stage].get("trainable", 0) for stage in stages)
        seconds = [record.get(stage, {}).get("seconds") for stage in stages]
        if None not in seconds:
            row["seconds"] = round(sum(seconds))
    return rows


def write_scores(path: Path, rows: dict, count: int) -> None:
    """Writes the table as JSON beside the result."""
    with atomic_write(path) as file:
        json.dump({"images": count, "rows": rows}, file, indent=1, allow_nan=False)
        file.write("\n")
