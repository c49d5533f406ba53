"""manifest.json: what a result was made from, so that an organiser can retrace it."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.few_shot_dataset import Sample
from engine.code_version import FEATURES_CODE, code_hashes
from engine.config import as_plain
from engine.device import precision_in_use
from engine.run_log import commit, versions
from fewshot.features.encoder import Encoder
from fewshot.inference.predictions import Predictions
from fewshot.inference.scorer import CODE, Scorer
from fewshot.provenance.links import IMAGES, image_rows, rows_digest, write_rows
from fewshot.provenance.verify import MANIFEST
from fewshot.stages.pipeline import Parts
from runtime.files import atomic_write
from weight_files.hashing import sha256_of
from weight_files.reader import count_numbers

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
    shots = {key for _, key in parts["text"]["shots"]}
    trained_on = sum(key in shots for _, key in rows)
    write_rows(out / IMAGES, rows)
    record = {
        "config": config,
        "inputs": {
            "weights": encoders[0].weights_sha256,
            "auxiliary": encoders[2].weights_sha256 if len(encoders) > 2 else None,
            "parts": scorer.hashes,
            "images": len(items),
            "images_sha256": rows_digest(rows),
            "images_trained_on": trained_on,
        },
        "made_from": {f"{stage}.pkl": part["meta"]["inputs"] for stage, part in parts.items()},
        "looks": as_plain(scorer.looks) | {"threshold": scorer.threshold},
        "shots": parts["text"]["shots"],
        "parameters": parameters(encoders, parts),
        "device": encoders[0].device,
        "precision": precision_in_use(),
        "rules": RULES,
        "selection": {"rule": SELECTION}
        | {stage: part["selection"] for stage, part in parts.items() if part.get("selection")},
        "skipped_images": [list(pair) for pair in outcome.skipped],
        "result": {name: sha256_of(out / name) for name in ("result.txt", "result.zip")},
        "versions": versions(),
        "commit": commit(),
        "code": code_hashes((*FEATURES_CODE, *CODE, "recipes/predict.py", "test.py")),
    }
    with atomic_write(out / MANIFEST) as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    return trained_on


def parameters(encoders: Sequence[Encoder], parts: Parts) -> dict[str, int]:
    """The numbers of each network and each part, and their sum. LoRA's are counted as a part."""
    counts = {"weights": encoders[0].parameters}
    if len(encoders) > 2:
        counts["auxiliary weights"] = encoders[2].parameters
    counts |= {f"{stage}.pkl": count_numbers(part) for stage, part in parts.items()}
    return counts | {"sum": sum(counts.values())}
