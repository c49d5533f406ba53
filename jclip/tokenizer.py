"""Turns text into token ids, equal to OpenAI's CLIP tokenizer.

The package `instant-clip-tokenizer` has the vocabulary; this module cleans the text first. Known
differences: an apostrophe before a long s (U+017F), the combining iota U+0345, and code points that
Unicode assigned after the package's tables were made.
"""

import html
import re
from collections.abc import Sequence
from functools import cache

import ftfy
import numpy as np
from instant_clip_tokenizer import Tokenizer

CONTEXT_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"

# A marker inside a text is one token, unless punctuation precedes it directly.
MARKERS = re.compile(rf"(?:(?<=[\s\w])(?<!_)|^)((?:{re.escape(START)}|{re.escape(END)})+)")


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()  # reads the vocabulary, which takes a tenth of a second


def clean(text: str) -> str:
    """Repairs the encoding, unescapes HTML twice, collapses white space, and lowers the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def encode(text: str) -> list[int]:
    """Returns the token ids of a text, without the start and end tokens."""
    tokenizer = _tokenizer()
    markers = {START: tokenizer.start_of_text(), END: tokenizer.end_of_text()}
    ids = []
    for part in MARKERS.split(clean(text)):
        if MARKERS.fullmatch(part):
            ids += [markers[marker] for marker in re.findall(r"<\|\w+\|>", part)]
        else:
            ids += tokenizer.encode(part)
    return ids


def tokenize(
    texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH, truncate: bool = False
) -> np.ndarray:
    """Returns token ids, int32 [S, context_length], of one text or several.

    Each row has the start token, the text, the end token, then zeros. Raises RuntimeError for a
    text that is too long; with `truncate` the text is cut instead, and keeps its end token.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    start, end = _tokenizer().start_of_text(), _tokenizer().end_of_text()
    tokens = np.zeros((len(texts), context_length), dtype=np.int32)
    for row, text in zip(tokens, texts, strict=True):
        if not isinstance(text, str):
            raise TypeError(f"a text is a str, not {type(text).__name__}: {text!r}")
        ids = [start, *encode(text), end]
        if len(ids) > context_length:
            if not truncate:
                raise RuntimeError(
                    f"Input {text!r} is too long for context length {context_length}: "
                    f"it has {len(ids)} tokens (shorten it, or pass truncate=True)"
                )
            ids = [*ids[: context_length - 1], end]
        row[: len(ids)] = ids
    return tokens
