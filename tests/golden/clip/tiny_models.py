"""The tiny CLIPs of the golden files, as arguments of OpenAI's CLIP and of jclip.ClipConfig."""

from typing import Any

TEXT_TOWER = {
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
}
SIZES: dict[str, dict[str, Any]] = {
    "vit": {
        "embed_dim": 32,
        "image_resolution": 64,
        "vision_layers": 2,
        "vision_width": 128,
        "vision_patch_size": 16,
        **TEXT_TOWER,
    },
    "resnet": {
        "embed_dim": 32,
        "image_resolution": 64,
        "vision_layers": (1, 2, 1, 1),
        "vision_width": 16,
        "vision_patch_size": None,
        **TEXT_TOWER,
    },
}
SEED = 2021
IMAGES = 4
