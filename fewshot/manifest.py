"""manifest.json: what a result was made from, so that an organiser can retrace it."""

import json
from pathlib import Path

from fewshot.features import Encoder
from fewshot.files import atomic_write
from fewshot.images import SkippedImages
from fewshot.runlog import commit, versions
from runtime import safe_load
from runtime.hashing import sha256_of

# What this kit does not do; contests ask for each to be stated.
RULES = {
    "test_labels_used": False,
    "pseudo_labels": False,
    "transductive": False,
    "selected_on_held_out_labels": False,
}


def write_manifest(
    out: Path, config: dict, encoder: Encoder, parts: Path, skipped: SkippedImages
) -> None:
    """Writes `out/manifest.json`. It holds no time of day: the same run gives the same bytes."""
    stages = {}
    for path in sorted(parts.glob("*.pkl")):
        meta = safe_load(path).get("meta", {})
        stages[path.name] = {"sha256": sha256_of(path), "inputs": meta.get("inputs", {})}
    record = {
        "config": config,
        "weights": {"sha256": encoder.weights_sha256, "parameters": encoder.parameters},
        "parts": stages,
        "device": encoder.device,
        "rules": RULES,
        "skipped_images": [list(pair) for pair in skipped],
        "result": {name: sha256_of(out / name) for name in ("result.txt", "result.zip")},
        "versions": versions(),
        "commit": commit(),
    }
    with atomic_write(out / "manifest.json") as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
