"""The weight file of a tiny CLIP."""

from pathlib import Path

import jittor as jt

import jclip
from engine import checkpoint

TINY = jclip.ClipConfig(
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
    """Writes an untrained CLIP of 3 million parameters, nearly all of them token embeddings."""
    jt.set_global_seed(seed)
    checkpoint.save(path, checkpoint.module_arrays(jclip.CLIP(TINY)))
    return path
