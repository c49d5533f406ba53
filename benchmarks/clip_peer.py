"""The peers of the parity check: OpenAI's and Hugging Face's CLIP in torch, with seeded weights.

`benchmarks/parity.py` runs this module, and the makers of golden files import it. It needs an
environment with torch and transformers, and a process without Jittor. That environment has no
tyro, so argparse reads the command line.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks import seeded_inputs


def openai_package(folder: Path):
    """Imports and returns OpenAI's `clip` package out of a checkout of its repository."""
    if not (folder / "clip" / "model.py").is_file():
        raise SystemExit(f"{folder} is no checkout of OpenAI's CLIP: it has no clip/model.py")
    declare_operator()
    spec = importlib.util.spec_from_file_location("clip", folder / "clip" / "__init__.py")
    assert spec and spec.loader  # both are there for a file that ends in .py
    clip = sys.modules["clip"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(clip)
    importlib.import_module("clip.clip")
    importlib.import_module("clip.model")
    return clip


def declare_operator() -> None:
    """Declares two operators, so that a torchvision without its binary can be imported.

    Its transforms are Python and need no binary.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", schema)


def openai_model(clip, sizes: dict, seed: int) -> torch.nn.Module:
    """Returns OpenAI's CLIP in fp32 with seeded weights."""
    model = clip.model.CLIP(**sizes).float().eval()
    state = {
        name: torch.from_numpy(seeded_inputs.seeded_weight(name, tuple(value.shape), seed))
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model.load_state_dict(state, strict=False)
    return model


def huggingface_config(sizes: dict, attention: str):
    """Returns Hugging Face's configuration of a CLIP of these sizes; ViT only."""
    from transformers import CLIPConfig

    shared = {"hidden_act": "quick_gelu", "projection_dim": sizes["embed_dim"]}
    text = {
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["transformer_width"],
        "intermediate_size": 4 * sizes["transformer_width"],
        "num_hidden_layers": sizes["transformer_layers"],
        "num_attention_heads": sizes["transformer_heads"],
        "max_position_embeddings": sizes["context_length"],
        "eos_token_id": sizes["vocab_size"] - 1,
    }
    vision = {
        "hidden_size": sizes["vision_width"],
        "intermediate_size": 4 * sizes["vision_width"],
        "num_hidden_layers": sizes["vision_layers"],
        "num_attention_heads": sizes["vision_width"] // 64,
        "image_size": sizes["image_resolution"],
        "patch_size": sizes["vision_patch_size"],
    }
    return CLIPConfig(
        text_config=text | shared,
        vision_config=vision | shared,
        projection_dim=sizes["embed_dim"],
        attn_implementation=attention,
    )


def huggingface_model(sizes: dict, state: dict) -> torch.nn.Module:
    """Returns Hugging Face's CLIPModel of these sizes with these weights; ViT only."""
    from transformers import CLIPModel

    model = CLIPModel(huggingface_config(sizes, "eager")).float().eval()
    missing, extra = model.load_state_dict(huggingface_state(state), strict=False)
    if extra or any(not name.endswith("position_ids") for name in missing):
        raise SystemExit(f"Hugging Face's names have changed: missing {missing}, extra {extra}")
    return model


def huggingface_state(state: dict) -> dict:
    """Returns the weights under Hugging Face's names and in its layout."""
    renamed = {}
    for name, value in state.items():
        for old, new in HUGGINGFACE_NAMES:
            name = name.replace(old, new)
        if ".in_proj_" in name:
            for part, letter in zip(value.chunk(3), "qkv", strict=True):
                renamed[name.replace("in_proj_", f"{letter}_proj.")] = part
        elif name in ("visual_projection.weight", "text_projection.weight"):
            renamed[name] = value.T.contiguous()
        else:
            renamed[name] = value
    return renamed


HUGGINGFACE_NAMES = (  # applied in this order
    ("visual.proj", "visual_projection.weight"),
    ("text_projection", "text_projection.weight"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("visual.conv1", "vision_model.embeddings.patch_embedding"),
    ("visual.ln_pre", "vision_model.pre_layrnorm"),
    ("visual.ln_post", "vision_model.post_layernorm"),
    ("visual.transformer.resblocks", "vision_model.encoder.layers"),
    ("transformer.resblocks", "text_model.encoder.layers"),
    ("token_embedding", "text_model.embeddings.token_embedding"),
    ("ln_final", "text_model.final_layer_norm"),
    (".attn.", ".self_attn."),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("c_fc", "fc1"),
    ("c_proj", "fc2"),
)


def features(model, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a peer's image and text features, not normalised."""
    with torch.no_grad():
        pixels, ids = torch.from_numpy(images), torch.from_numpy(tokens)
        if hasattr(model, "encode_image"):
            return model.encode_image(pixels).numpy(), model.encode_text(ids).numpy()
        image = model.visual_projection(model.vision_model(pixels).pooler_output)
        text = model.text_projection(model.text_model(ids.long()).pooler_output)
        return image.numpy(), text.numpy()


def main() -> None:
    """Answers one request of `benchmarks/parity.py`: reads a JSON file, writes an npz file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openai-clip", type=Path, required=True)
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--answer", type=Path, required=True)
    arguments = parser.parse_args()
    clip = openai_package(arguments.openai_clip)
    request = json.loads(arguments.request.read_text(encoding="utf-8"))
    answer = ANSWERS[request["task"]](clip, request)
    np.savez(arguments.answer, **answer)


def answer_tokens(clip, request: dict) -> dict[str, np.ndarray]:
    """Returns the tokens of `request["texts"]`."""
    return {"tokens": clip.clip.tokenize(request["texts"], truncate=True).numpy()}


def answer_pixels(clip, request: dict) -> dict[str, np.ndarray]:
    """Returns the preprocessed photos that `request["photos"]` specifies."""
    transform = clip.clip._transform(request["resolution"])
    return {
        str(row): transform(seeded_inputs.photo(*specification)).numpy()
        for row, specification in enumerate(request["photos"])
    }


def answer_features(clip, request: dict) -> dict[str, np.ndarray]:
    """Returns both peers' features; writes the weights to `request["weights"]`, a torch file."""
    sizes, seed = request["sizes"], request["seed"]
    model = openai_model(clip, sizes, seed)
    torch.save(model.state_dict(), request["weights"])
    images = seeded_inputs.seeded_images(request["images"], sizes["image_resolution"], seed)
    tokens = clip.clip.tokenize(list(seeded_inputs.SENTENCES), truncate=True).numpy()
    image, text = features(model, images, tokens)
    answer = {"OpenAI image": image, "OpenAI text": text}
    if isinstance(sizes["vision_layers"], int):
        peer = huggingface_model(sizes, model.state_dict())
        answer["Hugging Face image"], answer["Hugging Face text"] = features(peer, images, tokens)
    return answer


ANSWERS = {"tokens": answer_tokens, "pixels": answer_pixels, "features": answer_features}

if __name__ == "__main__":
    main()
