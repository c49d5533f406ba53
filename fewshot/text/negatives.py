"""Negatives: words that name no base class. Loads the kit's lists and mines those far from a class.

Source of the mining: Jiang et al., NegLabel, ICLR 2024, section 3.2 (methods D.3 and D.4).
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.lists import DataError
from fewshot.text.prompt_files import read_json
from models.normalize import unit_rows
from runtime.paths import ROOT

SINGULAR = (("ies", "y"), ("ie", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"))
NEGATIVES = ROOT / "prompts" / "negatives.json"


def load_negatives(path: Path = NEGATIVES) -> dict[str, list[str]]:
    """Returns the words of each kind, "nouns", "phrases" and "near", in the file's order.

    "near" has kinds of dogs, cars, dishes and animals that are no class of the contest; they are
    not part of "nouns". Raises `DataError` naming the file and what is wrong with it.
    """
    content = read_json(path)
    if not isinstance(content, dict) or set(content) != {"nouns", "phrases", "near"}:
        keys = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: holds {keys}; needs nouns, phrases and near")
    words_of_kind = {}
    for kind, value in content.items():
        lists = list(value.values()) if isinstance(value, dict) else [value]
        if not all(isinstance(words, list) for words in lists):
            raise DataError(f"{path}: {kind}: must hold lists of words")
        words_of_kind[kind] = [word for words in lists for word in words]
    for kind, words in words_of_kind.items():
        for word in words:
            if not isinstance(word, str) or not re.fullmatch(r"[a-z0-9][a-z0-9 '&-]*", word):
                raise DataError(f"{path}: {kind}: {word!r} must be lower-case ASCII words")
        if len(set(words)) < len(words):
            twice = next(word for word, count in Counter(words).items() if count > 1)
            raise DataError(f"{path}: {kind}: {twice!r} occurs twice")
    return words_of_kind


def normalize_name(name: str) -> str:
    """Returns a name for comparison: lower case, spaces for _ and -, the last word in the singular.

    "Sea_Horses" becomes "sea horse", "cherries" "cherry", "glass" "glass". "collie" and "collies"
    both become "colly", so that they agree.
    """
    words = re.sub(r"[\s_-]+", " ", name.lower()).strip()
    for ending, singular in SINGULAR:
        if words.endswith(ending) and len(words) > len(ending) + 1:
            return words.removesuffix(ending) + singular
    if words.endswith(("xes", "zes")):
        return words[:-2]
    if words.endswith("s") and not words.endswith(("ss", "us", "is")):
        return words[:-1]
    return words


def mine_negatives(
    word_vectors: np.ndarray,
    id_vectors: np.ndarray,
    names: Sequence[str],
    id_names: Sequence[str],
    share: float = 0.15,
    percentile: float = 95,
    near: float = 0.95,
) -> np.ndarray:
    """Returns indices into `names`, ascending, of the words that are farthest from the classes.

    word_vectors[O,E] and id_vectors[K,E] are text features of any length. Words are dropped first
    if they equal a class name or another word (`normalize_name`), or have a cosine above `near` to
    any class. Of the rest, the `share` with the lowest similarity remains, at least one word. The
    similarity of a word is the `percentile` of its cosines to the classes. Nouns and phrases should
    be mined separately: phrases are closer to everything, and would never be chosen among nouns.

    The order of the words does not change the choice. Raises ValueError for lengths that do not
    fit.
    """
    vectors, classes = (unit_rows(np.asarray(a, np.float64)) for a in (word_vectors, id_vectors))
    if len(vectors) != len(names) or len(classes) != len(id_names) or not len(classes):
        raise ValueError(
            f"{len(vectors)} word vectors for {len(names)} words, "
            f"{len(classes)} class vectors for {len(id_names)} classes: one each, at least 1 class"
        )
    cosines = np.round(vectors @ classes.T, 9)  # the last bits depend on a row's position
    similarity = np.percentile(cosines, percentile, axis=1)
    used_names, candidates = {normalize_name(name) for name in id_names}, []
    closest = cosines.max(axis=1)
    # Of equal names the most similar one represents all, whatever their order.
    for index in sorted(range(len(names)), key=lambda i: (-similarity[i], names[i])):
        name = normalize_name(names[index])
        if name not in used_names:
            used_names.add(name)
            if closest[index] <= near:
                candidates.append((similarity[index], name, index))
    count = max(round(share * len(candidates)), 1)
    return np.array(sorted(index for _, _, index in sorted(candidates)[:count]), int)
