"""manifest.json: what a result was made from, so that an organiser can retrace it."""

import json
from pathlib import Path

from fewshot.features import Encoder
from fewshot.files import atomic_write
from fewshot.images import SkippedImages
from fewshot.runlog import commit, versions
from fewshot.stages import Parts
from runtime.hashing import sha256_of
from runtime.weights_file import count_numbers

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
    encoder: Encoder,
    folder: Path,
    parts: Parts,
    skipped: SkippedImages,
) -> None:
    """Writes `out/manifest.json`; `parts` are the trained parts as read from `folder`.

    It holds no time of day: the same run gives the same bytes.
    """
    parameters = {"weights": encoder.parameters}
    parameters |= {f"{stage}.pkl": count_numbers(part) for stage, part in parts.items()}
    record = {
        "config": config,
        "weights_sha256": encoder.weights_sha256,
        "parts": {
            f"{stage}.pkl": {
                "sha256": sha256_of(folder / f"{stage}.pkl"),
                "made_from": part["meta"]["inputs"],
            }
            for stage, part in parts.items()
        },
        "shots": parts["text"]["shots"],
        "parameters": parameters | {"sum": sum(parameters.values())},
        "device": encoder.device,
        "rules": RULES,
        "selection": {"rule": SELECTION}
        | {stage: part["selection"] for stage, part in parts.items() if part.get("selection")},
        "skipped_images": [list(pair) for pair in skipped],
        "result": {name: sha256_of(out / name) for name in ("result.txt", "result.zip")},
        "versions": versions(),
        "commit": commit(),
    }
    with atomic_write(out / "manifest.json") as file:
        json.dump(record, file, indent=1, sort_keys=True)
        file.write("\n")
