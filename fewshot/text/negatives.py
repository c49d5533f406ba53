"""Words that name no base class: the kit's lists, and which of them serve a given set of classes.

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
    """{"nouns": words of all themes, "phrases": [...], "near": words of all domains}, each in the
    file's order. "near" holds kinds of dogs, cars, dishes and animals that are no class of the
    contest; it is not part of "nouns".

    Raises `DataError` naming the file and what is wrong with it.
    """
    content = read_json(path)
    if not isinstance(content, dict) or set(content) != {"nouns", "phrases", "near"}:
        held = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: holds {held}; needs nouns, phrases and near")
    found = {}
    for kind, held in content.items():
        lists = list(held.values()) if isinstance(held, dict) else [held]
        if not all(isinstance(words, list) for words in lists):
            raise DataError(f"{path}: {kind}: must hold lists of words")
        found[kind] = [word for words in lists for word in words]
    for kind, words in found.items():
        for word in words:
            if not isinstance(word, str) or not re.fullmatch(r"[a-z0-9][a-z0-9 '&-]*", word):
                raise DataError(f"{path}: {kind}: {word!r} must be lower-case ASCII words")
        if len(set(words)) < len(words):
            twice = next(word for word, count in Counter(words).items() if count > 1)
            raise DataError(f"{path}: {kind}: {twice!r} stands twice")
    return found


def plain_name(name: str) -> str:
    """A name as it is compared: lower case, one space for _ and -, its last word in the singular.

    "Sea_Horses" -> "sea horse", "cherries" -> "cherry", "glass" -> "glass". So that "collie" and
    "collies" agree, both become "colly".
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
    """Places[G] in `names` of the words that lie farthest from the classes, in the order of names.

    word_vectors[O,E], id_vectors[K,E]: text features, any length. Dropped first: names equal to a
    class name or to an earlier one (`plain_name`), and words with a cosine above `near` to any
    class. Of the rest the `share` with the lowest similarity remains, at least one; a word's
    similarity is the `percentile` of its cosines to the classes. Nouns and phrases are mined
    separately: phrases lie closer to everything, and would never be chosen among nouns.

    Which words are chosen does not depend on their order. Raises ValueError for lengths that
    do not fit.
    """
    vectors, classes = (unit_rows(np.asarray(a, np.float64)) for a in (word_vectors, id_vectors))
    if len(vectors) != len(names) or len(classes) != len(id_names) or not len(classes):
        raise ValueError(
            f"{len(vectors)} word vectors for {len(names)} words, "
            f"{len(classes)} class vectors for {len(id_names)} classes: one each, at least 1 class"
        )
    cosines = np.round(vectors @ classes.T, 9)  # last bits depend on a row's place
    similarity = np.percentile(cosines, percentile, axis=1)
    taken, allowed = {plain_name(name) for name in id_names}, []
    closeness = cosines.max(axis=1)
    # of equal names the closest to the classes stands for all, whatever the order
    for place in sorted(range(len(names)), key=lambda j: (-similarity[j], names[j])):
        if (name := plain_name(names[place])) not in taken:
            taken.add(name)
            if closeness[place] <= near:
                allowed.append((similarity[place], name, place))
    count = max(round(share * len(allowed)), 1)
    return np.array(sorted(place for _, _, place in sorted(allowed)[:count]), int)
