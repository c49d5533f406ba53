"""CLIP's weights under OpenAI's names, from whatever format they come in; strictly.

`load_state` and `read_activation` read files, because `jclip.load` does so by contract. All other
functions take what a file contains, and the name of its source for their messages.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jittor as jt
import numpy as np

from jclip.config import ClipConfig, infer_config
from weight_files.reader import safe_load

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # keys of weights in checkpoints
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # sizes in OpenAI's files
DERIVED = ("attn_mask", "position_ids", "num_batches_tracked")  # last parts of names; recomputed
MAX_LISTED = 10  # names in an error message, for each kind of fault

# Hugging Face's names (left) for OpenAI's. There, q, k and v are separate, the two projections are
# transposed, and `pre_layrnorm` is spelt so.
HUGGINGFACE_MARK = "text_model.embeddings.token_embedding.weight"  # only a `CLIPModel` has it
HUGGINGFACE_NAMES = {
    HUGGINGFACE_MARK: "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "logit_scale": "logit_scale",
}
HUGGINGFACE_TRANSPOSED = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}
HUGGINGFACE_NORMS = {  # beginnings of names
    "text_model.final_layer_norm.": "ln_final.",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
}
HUGGINGFACE_BLOCKS = {  # beginnings of names, before the number of the block
    "text_model.encoder.layers.": "transformer.resblocks.",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
}
HUGGINGFACE_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
    "self_attn.out_proj": "attn.out_proj",
}

T = TypeVar("T")


def load_state(path: str | Path) -> tuple[dict[str, np.ndarray], ClipConfig]:
    """Returns the float32 arrays under OpenAI's names, and the sizes, of the CLIP in a weight file.

    Raises ValueError, of one line with the file's name, if the file is unsafe, damaged or no CLIP.
    """
    state = to_openai(safe_load(path), path)
    try:
        return state, infer_config(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_activation(path: str | Path) -> str | None:
    """Returns "quick_gelu" or "gelu" if a configuration next to the weights says so, else None.

    The weights alone do not tell. Two files next to a `.safetensors` or `.bin` file are read:
    `config.json` (Hugging Face) and `open_clip_config.json`. Raises ValueError if they name another
    activation.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".bin"):
        return None
    config = path.with_name("config.json")
    if config.is_file():
        towers = json.loads(config.read_text(encoding="utf-8"))
        parts = [towers[key] for key in ("text_config", "vision_config") if towers.get(key)]
        names = {part.get("hidden_act", "quick_gelu") for part in parts}  # CLIPConfig's default
        if len(names) > 1 or not names <= {"quick_gelu", "gelu"}:
            raise ValueError(f"{config} has activations {sorted(names)}; CLIP has one of two")
        if names:
            return names.pop()
    config = path.with_name("open_clip_config.json")
    if config.is_file():
        model = json.loads(config.read_text(encoding="utf-8")).get("model_cfg", {})
        return "quick_gelu" if model.get("quick_gelu") else "gelu"
    return None


def to_openai(contents: Mapping[str, Any], source: str | Path) -> dict[str, np.ndarray]:
    """Returns the CLIP in a file's contents: float32 arrays under OpenAI's names.

    Understands the names of OpenAI and JCLIP, of Hugging Face's `CLIPModel`, and of OpenCLIP.
    Raises ValueError naming what is no array, no floating-point number, or not finite.
    """
    state = to_float32(unwrap(contents, source), source)
    if any(name.startswith("visual.trunk.") for name in state):
        raise ValueError(f"{source} has an image tower of timm (visual.trunk), not CLIP's own")
    if any(name.startswith("text.transformer.encoder.") for name in state):
        raise ValueError(f"{source} has a text tower of another family, which is not CLIP's own")
    if HUGGINGFACE_MARK in state:
        return _from_huggingface(state, source)
    if "text.token_embedding.weight" in state:  # OpenCLIP's CustomTextCLIP
        return _without_prefix(state, "text.", source)
    return state


def unwrap(contents: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """Returns the innermost dictionary of weights, without data parallelism's `module.` in names.

    Raises ValueError if two names become one.
    """
    wrapper = next((key for key in WRAPPERS if isinstance(contents.get(key), dict)), None)
    if wrapper is not None:
        return unwrap(contents[wrapper], source)
    state = {str(name): value for name, value in contents.items()}
    return _without_prefix(state, "module.", source)


def to_float32(state: Mapping[str, object], source: str | Path) -> dict[str, np.ndarray]:
    """Returns the weights as C-ordered float32, and copies only those that are not.

    Leaves out what the network computes itself. Raises ValueError naming what is no floating-point
    array or not finite.
    """
    result, not_floating, not_finite = {}, [], []
    for name, value in state.items():
        if name in NOT_WEIGHTS or name.rsplit(".", 1)[-1] in DERIVED:
            continue
        if not isinstance(value, np.ndarray | np.floating) or value.dtype.kind != "f":
            not_floating.append(f"{name} ({getattr(value, 'dtype', type(value).__name__)})")
            continue
        with np.errstate(over="ignore"):  # a float64 too large becomes infinite, refused below
            result[name] = np.asarray(value, dtype=np.float32, order="C")
        if not np.isfinite(result[name]).all():
            not_finite.append(name)
    if not_floating:
        raise ValueError(f"{source} has no floating-point arrays in: {_first_names(not_floating)}")
    if not_finite:
        raise ValueError(f"{source} has infinite or undefined numbers: {_first_names(not_finite)}")
    if "logit_scale" in result and result["logit_scale"].size == 1:
        # Jittor writes one number as an array of shape (1,).
        result["logit_scale"] = result["logit_scale"].reshape(())
    return result


def assign(
    variables: Mapping[str, jt.Var], state: Mapping[str, np.ndarray], source: str | Path
) -> None:
    """Sets every variable to the array of its name.

    Raises ValueError, and changes nothing, unless all names and shapes fit.
    """
    check_complete(state, {name: tuple(v.shape) for name, v in variables.items()}, source)
    for name, variable in variables.items():
        variable.update(jt.array(state[name].reshape(variable.shape)))


def check_complete(
    state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], source: str | Path
) -> None:
    """Raises ValueError listing every missing, extra and misshapen name of `state`.

    `expected` maps names to shapes. The shapes (1,) and () are the same, because Jittor has no
    arrays without axes.
    """
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and (state[name].shape or (1,)) != (tuple(shape) or (1,))
    ]
    faults = {"missing": missing, "extra": extra, "misshapen": misshapen}
    texts = [
        f"{len(names)} {kind}: {_first_names(names)}" for kind, names in faults.items() if names
    ]
    if texts:
        raise ValueError(f"{source} does not fit the model: {'; '.join(texts)}")


def _without_prefix(state: dict[str, T], prefix: str, source: str | Path) -> dict[str, T]:
    """Removes a prefix from names. Raises ValueError if two names become one."""
    result = {name.removeprefix(prefix): value for name, value in state.items()}
    if len(result) < len(state):
        raise ValueError(f"{source} has weights with and without {prefix!r} in their names")
    return result


def _from_huggingface(state: dict[str, np.ndarray], source: str | Path) -> dict[str, np.ndarray]:
    """Renames Hugging Face's weights to OpenAI's; an unknown name stays, to be refused as extra.

    Raises ValueError if one of q, k and v is missing, if they do not fit together, or if the same
    weights come twice.
    """
    result = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        attention = module[: -len("q_proj")]
        new_name = _openai_name(name)
        if module.endswith(".self_attn.q_proj"):
            new_name = f"{_openai_name(attention)}in_proj_{kind}"
            value = _join_qkv(state, attention, kind, source)
        elif module.endswith((".self_attn.k_proj", ".self_attn.v_proj")):
            if f"{attention}q_proj.{kind}" not in state:
                raise ValueError(f"{source}: {attention}q_proj.{kind} is missing")
            continue
        elif name in HUGGINGFACE_TRANSPOSED and value.ndim == 2:
            new_name, value = HUGGINGFACE_TRANSPOSED[name], np.ascontiguousarray(value.T)
        if new_name in result:
            raise ValueError(f"{source} has {new_name} under two names")
        result[new_name] = value
    return result


def _openai_name(name: str) -> str:
    """Returns OpenAI's name of a parameter, or of an attention layer up to its dot."""
    for old, new in HUGGINGFACE_NORMS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    for old, new in HUGGINGFACE_BLOCKS.items():
        if name.startswith(old):
            number, _, rest = name.removeprefix(old).partition(".")
            module, _, kind = rest.rpartition(".")
            return f"{new}{number}.{HUGGINGFACE_IN_BLOCK.get(module, module)}.{kind}"
    return HUGGINGFACE_NAMES.get(name, name)


def _join_qkv(
    state: dict[str, np.ndarray], attention: str, kind: str, source: str | Path
) -> np.ndarray:
    """Stacks q, k and v: [3D, D] for weights, [3D] for biases."""
    names = [f"{attention}{part}_proj.{kind}" for part in "qkv"]
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{source}: {', '.join(missing)} is missing")
    shapes = {state[name].shape for name in names}
    if len(shapes) > 1 or () in shapes:
        raise ValueError(f"{source}: {attention}q_proj, k_proj and v_proj have shapes {shapes}")
    return np.concatenate([state[name] for name in names])


def _first_names(names: list[str]) -> str:
    """Joins the first names, and adds how many more there are."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
