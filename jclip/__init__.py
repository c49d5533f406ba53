"""CLIP in Jittor behind the field's own interface: `load`, `tokenize`, `available_models`."""

import runtime  # noqa: F401  (prepares Jittor before its first import)
from jclip.download import available_models
from jclip.loading import load
from jclip.model import CLIP
from jclip.sizes import ClipSizes
from jclip.tokenizer import tokenize

__all__ = ["CLIP", "ClipSizes", "available_models", "load", "tokenize"]
