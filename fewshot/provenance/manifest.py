"""manifest.json: what a result was made from, so that an organiser can retrace it."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.few_shot_dataset import Sample
from engine.code_version import code_hashes
from engine.config import as_plain
from engine.device import precision_in_use
from engine.versions import commit, versions
from fewshot.inference.predictions import Predictions
from fewshot.inference.scorer import Encoders, Scorer
from fewshot.provenance.files import IMAGES, MANIFEST, image_rows, rows_digest, write_rows
from fewshot.stages.parts import Parts
from fewshot.stages.typed_data import to_plain
from runtime.files import atomic_write
from weight_files.hashing import sha256_of
from weight_files.reader import count_parameters

RULES = {  # what contests ask to be stated; this kit does none of it
    "test_labels_used": False,
    "pseudo_labels": False,
    "transductive": False,
    "selected_on_held_out_labels": False,
    "images_beyond_the_split": False,
}
SELECTION = "strict few-shot: fixed beforehand, but for what is listed here"


def write_manifest(
    out: Path,
    config: dict,
    scorer: Scorer,
    items: Sequence[Sample],
    outcome: Predictions,
) -> int:
    """Writes `out/manifest.json`, and each test image's hash beside it. Neither holds a time of
    day: the same run gives the same bytes. Returns how many of the images are among the shots,
    whatever they are called.
    """
    parts, encoders, rows = scorer.parts, scorer.encoders, image_rows(items)
    shots = {key for _, key in parts.text.shots}
    trained_on = sum(key in shots for _, key in rows)
    write_rows(out / IMAGES, rows)
    record = {
        "config": config,
        "inputs": {
            "weights": encoders.plain.weights_sha256,
            "auxiliary": encoders.auxiliary.weights_sha256 if encoders.auxiliary else None,
            "parts": parts.hashes,
            "images": len(items),
            "images_sha256": rows_digest(rows),
            "images_trained_on": trained_on,
        },
        "made_from": {f"{stage}.pkl": origin.inputs for stage, origin in parts.origins.items()},
        "looks": as_plain(scorer.config) | {"threshold": scorer.threshold},
        "shots": parts.text.shots,
        "parameters": parameters(encoders, parts),
        "device": encoders.plain.device,
        "precision": precision_in_use(),
        "rules": RULES,
        "selection": {"rule": SELECTION}
        | {stage: part.selection for stage, part in parts.by_stage.items() if part.selection},
        "skipped_images": [list(pair) for pair in outcome.skipped],
        "result": {name: sha256_of(out / name) for name in ("result.txt", "result.zip")},
        "versions": versions(),
        "commit": commit(),
        "code": code_hashes(["test"]),
    }
    with atomic_write(out / MANIFEST) as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    return trained_on


def parameters(encoders: Encoders, parts: Parts) -> dict[str, int]:
    """The numbers of each network and each part, and their sum. LoRA's are counted as a part."""
    counts = {"weights": encoders.plain.parameters}
    if encoders.auxiliary:
        counts["auxiliary weights"] = encoders.auxiliary.parameters
    for stage, part in parts.by_stage.items():
        counts[f"{stage}.pkl"] = count_parameters(to_plain(part))
    return counts | {"sum": sum(counts.values())}
