"""Builds a CLIP from a file of weights, or from the name of one of OpenAI's models.

Names, addresses and hashes are those of https://github.com/openai/CLIP, clip/clip.py.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jclip.model import CLIP
from jclip.preprocess import make_preprocess
from jclip.weights import assign, load_state, read_activation
from runtime.paths import ROOT
from weight_files.hashing import sha256_of

SITE = "https://openaipublic.azureedge.net/clip/models"  # then /<SHA-256>/<file>
MODELS = {  # name: (file, SHA-256)
    "RN50": ("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "RN101": ("RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "RN50x4": ("RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "RN50x16": ("RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "RN50x64": ("RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "ViT-B/32": ("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-B/16": ("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "ViT-L/14": ("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "ViT-L/14@336px": (
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    ),
}
OPENAI_FOLDER = Path("~/.cache/clip")  # where OpenAI's own package keeps its downloads


def available_models() -> list[str]:
    """Returns the names of OpenAI's nine models."""
    return list(MODELS)


def load(
    path: str | Path, activation: str | None = None
) -> tuple[CLIP, Callable[[Image.Image], np.ndarray]]:
    """Returns a model in evaluation mode and its preprocessing, PIL image -> float32 [3, R, R].

    `path` is a weight file in any format that `jclip.weights` reads, or a name out of
    `available_models()`, which is downloaded if it is not on disk. `activation` ("quick_gelu" or
    "gelu") overrides what the file says. Raises ValueError if the file is not the weights of a CLIP
    or is incomplete, and FileNotFoundError if `path` is neither a file nor a name.
    """
    file = find_or_download(str(path)) if str(path) in MODELS else Path(path)
    if not file.is_file():
        names = ", ".join(MODELS)
        raise FileNotFoundError(f"{path} is neither a file of weights nor one of {names}")
    state, config = load_state(file)
    activation = activation or read_activation(file) or "quick_gelu"
    model = CLIP(config, activation, initialised=False)
    assign(dict(model.named_parameters()), state, file)
    model.eval()
    return model, make_preprocess(config.image_resolution)


def find_or_download(name: str, folder: str | Path = ROOT) -> Path:
    """Returns the official file of a model: from `folder` or ~/.cache/clip, else downloaded.

    A download goes to `<file>.part` in `folder`, continues where it was interrupted, and gets its
    name once its SHA-256 is right. Raises ValueError, which says what to put where, if the name is
    unknown, a file of that name has another content, or the download fails.
    """
    if name not in MODELS:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(MODELS)}")
    file_name, sha = MODELS[name]
    target, shared = Path(folder) / file_name, OPENAI_FOLDER.expanduser() / file_name
    if target.is_file():
        if sha256_of(target) != sha:
            raise ValueError(
                f"{target} is not OpenAI's {name}: its SHA-256 is not {sha}; move it away"
            )
        return target
    if shared.is_file() and sha256_of(shared) == sha:
        return shared
    from weight_files.download import download_file  # most runs download nothing

    download_file(name, f"{SITE}/{sha}/{file_name}", target, sha)
    return target
