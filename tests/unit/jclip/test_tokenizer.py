"""Token ids against OpenAI's tokenizer, and the errors."""

import json

import numpy as np
import pytest

from jclip import tokenize
from jclip.tokenizer import clean
from runtime.paths import ROOT

GOLDEN = ROOT / "tests/golden/clip/tokens.json"
START, END = 49406, 49407


def test_ids_equal_openai():
    golden = json.loads(GOLDEN.read_text())
    tokens = tokenize([entry["text"] for entry in golden], truncate=True)
    for row, entry in zip(tokens, golden, strict=True):
        assert np.trim_zeros(row, "b").tolist() == entry["ids"], ascii(entry["text"])
    lengths = [len(entry["ids"]) for entry in golden]
    assert min(lengths) == 2 and max(lengths) == 77  # the strings reach both ends


def test_rows_are_int32_and_padded_with_zeros():
    tokens = tokenize("a cat")
    assert tokens.shape == (1, 77) and tokens.dtype == np.int32
    assert tokens[0, :5].tolist() == [START, 320, 2368, END, 0]
    assert tokenize([]).shape == (0, 77)
    assert tokenize(["a", "cat"], context_length=8).shape == (2, 8)


def test_markers_inside_a_text_count_as_one_token():
    assert tokenize("x<|endoftext|>")[0, 1:4].tolist() == [343, END, END]
    assert tokenize("!<|endoftext|>")[0, 2] != END  # punctuation runs into it


def test_too_long_is_an_error_unless_truncated():
    text = "a cat " * 40
    with pytest.raises(RuntimeError, match=r"a cat.*context length 77.*82 tokens"):
        tokenize(["short", text])
    row = tokenize(text, truncate=True)[0]
    assert row[0] == START and row[-1] == END and (row > 0).all()
    assert (tokenize("a " * 75)[0, -2:] == [320, END]).all()  # 77 tokens fit exactly


def test_only_strings_are_texts():
    with pytest.raises(TypeError, match="a text is a str, not int: 3"):
        tokenize(["a", 3])


def test_cleaning():
    assert clean("  The&amp;amp;\n\tCaf\u00c3\u00a9 ") == "the& café"
