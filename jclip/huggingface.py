"""The names of Hugging Face's `CLIPModel`, turned into OpenAI's.

Differences: q, k and v lie apart, the two projections are transposed, and `pre_layrnorm` is spelt
so.
"""

from pathlib import Path

import numpy as np

MARK = "text_model.embeddings.token_embedding.weight"  # only a `CLIPModel` has this name
WHOLE = {  # names in full
    MARK: "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "logit_scale": "logit_scale",
}
TRANSPOSED = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
MODULES = {  # beginnings of names
    "text_model.final_layer_norm.": "ln_final.",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
}
TOWERS = {
    "text_model.encoder.layers.": "transformer.resblocks.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
}
IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
    "self_attn.out_proj": "attn.out_proj",
}


def renamed(state: dict[str, np.ndarray], path: str | Path) -> dict[str, np.ndarray]:
    """The state under OpenAI's names; a name that is not known stays, to be refused as extra.

    Raises ValueError where one of q, k and v is missing, where they do not fit together, or where a
    file has the same weights twice.
    """
    result = {}
    for name, value in state.items():
        head, _, kind = name.rpartition(".")
        attention = head[: -len("q_proj")]
        new = _new_name(name)
        if head.endswith(".self_attn.q_proj"):
            new = f"{_new_name(attention)}in_proj_{kind}"
            value = _joined(state, attention, kind, path)
        elif head.endswith((".self_attn.k_proj", ".self_attn.v_proj")):
            if f"{attention}q_proj.{kind}" not in state:
                raise ValueError(f"{path}: {attention}q_proj.{kind} is missing")
            continue
        elif name in TRANSPOSED and value.ndim == 2:
            new, value = TRANSPOSED[name], np.ascontiguousarray(value.T)
        if new in result:
            raise ValueError(f"{path} has {new} under two names")
        result[new] = value
    return result


def _new_name(name: str) -> str:
    """OpenAI's name of a parameter that is the same in both, or of an attention up to its dot."""
    for old, new in MODULES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    for old, new in TOWERS.items():
        if name.startswith(old):
            number, _, rest = name.removeprefix(old).partition(".")
            module, _, kind = rest.rpartition(".")
            return f"{new}{number}.{IN_BLOCK.get(module, module)}.{kind}"
    return WHOLE.get(name, name)


def _joined(
    state: dict[str, np.ndarray], attention: str, kind: str, path: str | Path
) -> np.ndarray:
    """q, k and v below each other: [3 D, D] for weights, [3 D] for biases."""
    names = [f"{attention}{part}_proj.{kind}" for part in "qkv"]
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} is missing")
    shapes = {state[name].shape for name in names}
    if len(shapes) > 1 or () in shapes:
        raise ValueError(f"{path}: {attention}q_proj, k_proj and v_proj have shapes {shapes}")
    return np.concatenate([state[name] for name in names])
