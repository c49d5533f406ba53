"""Which source files features and trained parts depend on, readable without Jittor."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from runtime.hashing import sha256_of

ROOT = Path(__file__).resolve().parent.parent
FEATURES_CODE = (
    "jclip/*.py",
    "runtime/*.hpp",
    "runtime/attention.py",
    "runtime/cpu_operator.py",
    "runtime/cuda_operator.py",
    "runtime/norm.py",
    "runtime/onednn.py",
    "runtime/prepare.py",
    "runtime/product.py",
    "runtime/resample.py",
    "runtime/rebuild.py",  # from here on: how weight files are read
    "runtime/safetensors_file.py",
    "runtime/tensors.py",
    "runtime/torch_files.py",
    "runtime/unpickle.py",
    "runtime/weights_file.py",
    "fewshot/device.py",
    "fewshot/features.py",
    "fewshot/images.py",
    "fewshot/transforms.py",
    "fewshot/engine.py",
)
PARTS_CODE = (  # beside that of the features
    "fewshot/*_stage.py",
    "fewshot/checkpoint.py",
    "fewshot/classifier.py",
    "fewshot/losses.py",
    "fewshot/negatives.py",
    "fewshot/ood.py",
    "fewshot/pieces.py",
    "fewshot/prompt_files.py",
    "fewshot/random_state.py",
    "fewshot/exchange.py",
    "fewshot/sampling.py",
    "fewshot/schedules.py",
    "fewshot/shots.py",
    "fewshot/text.py",
    "models/auxiliary.py",
    "models/channel.py",
    "models/gda.py",
    "models/head.py",
    "models/linear_head.py",
    "models/lora*.py",
    "models/lpplusplus*.py",
    "models/moco.py",
    "models/ood_*.py",
    "models/prompt_*.py",
    "models/rows.py",
    "recipes/clip_fewshot.py",
    "runtime/low_rank.py",
    "runtime/softmax.py",
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
