"""CLIP in Jittor with OpenAI's own interface: `load`, `tokenize`, `available_models`.

Shapes in all of its modules: B images, S sentences, N sequences (images or sentences), L tokens,
D width, E embedding, R pixels a side of an image, G patches a side of it, P pixels a side of a
patch.
"""

import runtime  # noqa: F401  (prepares Jittor before its first import)
from jclip.config import ClipConfig
from jclip.loading import available_models, load
from jclip.model import CLIP
from jclip.tokenizer import tokenize

__all__ = ["CLIP", "ClipConfig", "available_models", "load", "tokenize"]
