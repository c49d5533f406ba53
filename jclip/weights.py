"""CLIP's weights under one set of names, OpenAI's, from whatever file they come in; strictly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jclip.huggingface import MARK as HUGGINGFACE_MARK
from jclip.huggingface import renamed as from_huggingface
from jclip.sizes import ClipSizes, read_sizes
from weight_files.reader import safe_load

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # sizes in OpenAI's files
DERIVED = ("attn_mask", "position_ids", "num_batches_tracked")  # last parts of names; made anew
LISTED = 10  # names shown of each kind of fault

T = TypeVar("T")


def load_state(path: str | Path) -> tuple[dict[str, np.ndarray], ClipSizes]:
    """(float32 arrays under OpenAI's names, sizes) of the CLIP in a weight file of any format.

    Raises ValueError, of one line with the file's name, where the file is unsafe, damaged or no
    CLIP.
    """
    state = canonical(safe_load(path), path)
    try:
        return state, read_sizes(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def canonical(contents: dict[str, Any], path: str | Path) -> dict[str, np.ndarray]:
    """The CLIP in a file's contents: float32 arrays under OpenAI's names.

    Understands the names of OpenAI and JCLIP, Hugging Face's `CLIPModel`, and OpenCLIP. Raises
    ValueError naming what is no array, no floating-point number, or not finite.
    """
    state = _as_float32(_unwrapped(contents, path), path)
    if any(name.startswith("visual.trunk.") for name in state):
        raise ValueError(
            f"{path} has an image tower of timm (visual.trunk), which is not CLIP's own"
        )
    if any(name.startswith("text.transformer.encoder.") for name in state):
        raise ValueError(f"{path} has a text tower of another family, which is not CLIP's own")
    if HUGGINGFACE_MARK in state:
        return from_huggingface(state, path)
    if "text.token_embedding.weight" in state:  # OpenCLIP's CustomTextCLIP
        return _without_prefix(state, "text.", path)
    return state


def check_complete(
    state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], path: str | Path
) -> None:
    """Raises ValueError listing every missing, extra and misshapen name of `state`.

    `expected` maps names to shapes; (1,) and () both mean one number, for Jittor has no 0-d arrays.
    """
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and (state[name].shape or (1,)) != (tuple(shape) or (1,))
    ]
    faults = {"missing": missing, "extra": extra, "misshapen": misshapen}
    text = "; ".join(
        f"{len(names)} {kind}: {_few(names)}" for kind, names in faults.items() if names
    )
    if text:
        raise ValueError(f"{path} does not fit the model: {text}")


def activation_of(path: str | Path) -> str | None:
    """ "quick_gelu" or "gelu" where a configuration beside the weights says so, else None.

    Weights alone do not tell. Read are `config.json` (Hugging Face) and `open_clip_config.json`
    beside a `.safetensors` or `.bin` file. Raises ValueError where they name another activation.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".bin"):
        return None
    config = path.with_name("config.json")
    if config.is_file():
        towers = json.loads(config.read_text(encoding="utf-8"))
        parts = [towers[key] for key in ("text_config", "vision_config") if towers.get(key)]
        named = {part.get("hidden_act", "quick_gelu") for part in parts}  # CLIPConfig's default
        if len(named) > 1 or not named <= {"quick_gelu", "gelu"}:
            raise ValueError(
                f"{config} has activations {sorted(named)}; one of CLIP's two is needed"
            )
        if named:
            return named.pop()
    config = path.with_name("open_clip_config.json")
    if config.is_file():
        model = json.loads(config.read_text(encoding="utf-8")).get("model_cfg", {})
        return "quick_gelu" if model.get("quick_gelu") else "gelu"
    return None


def _without_prefix(state: dict[str, T], prefix: str, path: str | Path) -> dict[str, T]:
    """The state without this beginning of names; raises ValueError where two become one."""
    result = {name.removeprefix(prefix): value for name, value in state.items()}
    if len(result) < len(state):
        raise ValueError(f"{path} has the same weights with and without {prefix!r} in their names")
    return result


def _unwrapped(contents: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The innermost dictionary of weights, without the `module.` of a data-parallel model."""
    inner = next((key for key in WRAPPERS if isinstance(contents.get(key), dict)), None)
    if inner is not None:
        return _unwrapped(contents[inner], path)
    state = {str(name): value for name, value in contents.items()}
    return _without_prefix(state, "module.", path)


def _as_float32(state: dict[str, object], path: str | Path) -> dict[str, np.ndarray]:
    """The weights as C-ordered float32, copied only where they are not; drops what is no weight."""
    result, no_number, not_finite = {}, [], []
    for name, value in state.items():
        if name in NOT_WEIGHTS or name.rsplit(".", 1)[-1] in DERIVED:
            continue
        if not isinstance(value, np.ndarray | np.floating) or value.dtype.kind != "f":
            no_number.append(f"{name} ({getattr(value, 'dtype', type(value).__name__)})")
            continue
        with np.errstate(over="ignore"):  # a float64 too large becomes infinite, refused below
            result[name] = np.asarray(value, dtype=np.float32, order="C")
        if not np.isfinite(result[name]).all():
            not_finite.append(name)
    if no_number:
        raise ValueError(f"{path} holds what are no floating-point arrays: {_few(no_number)}")
    if not_finite:
        raise ValueError(f"{path} has infinite or undefined numbers in: {_few(not_finite)}")
    if "logit_scale" in result and result["logit_scale"].size == 1:
        result["logit_scale"] = result["logit_scale"].reshape(
            ()
        )  # Jittor writes one number as (1,)
    return result


def _few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
