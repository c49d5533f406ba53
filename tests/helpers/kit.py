"""Small real parts that several tests share: a tiny CLIP's weight file, and the demo's tree."""

import importlib.util
import os
import shutil
from pathlib import Path

import jittor as jt
import pytest

import jclip
from engine import checkpoint
from kernels import cpu_operator
from runtime.paths import ROOT

PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
TINY = jclip.ClipSizes(
    embed_dim=32,
    image_resolution=16,
    vision_layers=1,
    vision_width=64,
    vision_patch_size=8,
    context_length=77,
    vocab_size=49408,
    transformer_width=64,
    transformer_heads=1,
    transformer_layers=1,
)


def write_tiny_clip(path: Path, seed: int = 0) -> Path:
    """An untrained CLIP of 3 million parameters, nearly all of them token embeddings."""
    jt.set_global_seed(seed)
    checkpoint.save(path, checkpoint.module_arrays(jclip.CLIP(TINY)))
    return path


def computes_bf16() -> bool:
    """Whether oneDNN has bf16 here: by the processor, or emulated on AVX-512 (its flag 0x20)."""
    return bool(cpu_operator.instruction_sets() & 0x20)


def script(name: str):
    """A file that is run by hand, such as test.py or scripts/make_demo.py, as a module."""
    spec = importlib.util.spec_from_file_location(f"kit_{Path(name).stem}", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def need(command: str, switch: str, packages: str) -> None:
    """Skips the test where a command is missing; fails it where the environment's `switch` is 1."""
    if not shutil.which(command):
        missing = f"no {command} (Debian: {packages})"
        if os.environ.get(switch) == "1":
            pytest.fail(f"{switch}=1, but there is {missing}")
        pytest.skip(missing)
