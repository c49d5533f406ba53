"""manifest.json: everything that a result was made from, so that an organiser can retrace it."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.few_shot_dataset import Sample
from engine.code_version import code_hashes
from engine.device import precision_in_use
from engine.plain_data import to_plain
from engine.versions import commit, versions
from fewshot.inference.predictions import Predictions
from fewshot.inference.scorer import Encoders, Scorer
from fewshot.provenance.defaults import NOTE, constants_in_use
from fewshot.provenance.files import IMAGES, MANIFEST, image_rows, rows_digest, write_rows
from fewshot.stages.parts import Parts
from runtime.files import atomic_write
from weight_files.hashing import sha256_of
from weight_files.reader import count_parameters

RULES = {  # what contests ask about; no run of this kit does any of it
    "test_labels_used": False,
    "pseudo_labels": False,
    "transductive": False,
    "images_beyond_the_split": False,
}
SELECTION = "no labels but those of the shots chose a setting in this run; the shots chose these"


def write_manifest(
    out: Path, config: dict, scorer: Scorer, samples: Sequence[Sample], predictions: Predictions
) -> int:
    """Writes manifest.json and images.sha256, a line per test image, to `out`.

    The same run gives the same bytes, because no time of day is written. Returns how many of the
    images have the same content as a shot.
    """
    parts, encoders, rows = scorer.parts, scorer.encoders, image_rows(samples)
    shots = {key for _, key in parts.text.shots}
    trained_on = sum(key in shots for _, key in rows)
    write_rows(out / IMAGES, rows)
    constants = constants_in_use(parts)
    uses_defaults = any(row["is_default"] is not False for row in constants.values())
    selection = {stage: part.selection for stage, part in parts.by_stage.items() if part.selection}
    record = {
        "config": config,
        "inputs": {
            "weights": encoders.plain.weights_sha256,
            "auxiliary": encoders.auxiliary.weights_sha256 if encoders.auxiliary else None,
            "parts": parts.hashes,
            "images": len(samples),
            "images_sha256": rows_digest(rows),
            "images_trained_on": trained_on,
        },
        "made_from": {f"{stage}.pkl": origin.inputs for stage, origin in parts.origins.items()},
        "inference": to_plain(scorer.config) | {"threshold": scorer.threshold},
        "shots": parts.text.shots,
        "parameters": parameter_counts(encoders, parts),
        "device": encoders.plain.device,
        "precision": precision_in_use(),
        "rules": RULES | {"constants_chosen_on_public_test_labels": uses_defaults},
        "selection": {"rule": SELECTION} | selection,
        "constants_chosen_on_public_test_labels": {"note": NOTE, "constants": constants},
        "skipped_images": [list(pair) for pair in predictions.skipped],
        "result": {name: sha256_of(out / name) for name in ("result.txt", "result.zip")},
        "versions": versions(),
        "commit": commit(),
        "code": code_hashes(["test"]),
    }
    with atomic_write(out / MANIFEST) as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
    return trained_on


def parameter_counts(encoders: Encoders, parts: Parts) -> dict[str, int]:
    """Returns how many numbers each network and each part holds, and their sum.

    Those of LoRA count as a part.
    """
    counts = {"weights": encoders.plain.parameters}
    if encoders.auxiliary:
        counts["auxiliary weights"] = encoders.auxiliary.parameters
    for stage, part in parts.by_stage.items():
        counts[f"{stage}.pkl"] = count_parameters(to_plain(part))
    return counts | {"sum": sum(counts.values())}
