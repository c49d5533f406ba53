"""Which source files features and trained parts depend on, readable without Jittor."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from runtime.paths import ROOT
from weight_files.hashing import sha256_of

FEATURES_CODE = (
    "jclip/*.py",
    "kernels/*.py",
    "kernels/*.hpp",
    "runtime/onednn.py",
    "runtime/prepare.py",
    "weight_files/allow_list.py",  # from here on: how weight files are read
    "weight_files/safetensors_file.py",
    "weight_files/tensors.py",
    "weight_files/torch_files.py",
    "weight_files/pickle_machine.py",
    "weight_files/reader.py",
    "engine/device.py",
    "fewshot/features/*.py",
    "data/decoding.py",
    "data/views.py",
    "engine/predictor.py",
)
PARTS_CODE = (  # beside that of the features
    "fewshot/stages/*.py",
    "engine/checkpoint.py",
    "fewshot/inference/ensemble.py",
    "engine/losses.py",
    "fewshot/text/negatives.py",
    "engine/micro_batches.py",
    "fewshot/text/prompt_files.py",
    "engine/seeding.py",
    "runtime/distributed.py",
    "engine/batches.py",
    "engine/schedules.py",
    "engine/trainer.py",
    "data/few_shot_splits.py",
    "fewshot/text/class_texts.py",
    "models/backbones/moco.py",
    "models/heads/*.py",
    "models/lora.py",
    "models/ood/*.py",
    "models/prompting/*.py",
    "models/normalize.py",
    "recipes/clip_fewshot.py",
)


def code_paths(patterns: Iterable[str], root: Path = ROOT) -> list[Path]:
    """The files that glob patterns stand for, sorted."""
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def code_digest(patterns: Iterable[str], jittor: str, root: Path = ROOT) -> str:
    """One hash of these files and of the version of Jittor that runs them."""
    digest = hashlib.sha256(jittor.encode())
    for path in code_paths(patterns, root):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_hashes(patterns: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """{file below `root`: its SHA-256}."""
    paths = code_paths(patterns, root)
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in paths}
