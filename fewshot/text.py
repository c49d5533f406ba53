"""From class names to sentences, and from sentence vectors to class vectors."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewshot.data import Tree, split_class_name
from models.lpplusplus_geometry import unit_rows

TEMPLATES = Path(__file__).resolve().parent.parent / "prompts" / "templates.json"


def load_templates(path: Path = TEMPLATES) -> dict[str, list[str]]:
    """{domain: templates with one {} each}; the domain "" serves every domain that has no templates
    of its own.

    Raises ValueError naming the file and the template.
    """
    templates = json.loads(path.read_text(encoding="utf-8"))
    for domain, sentences in templates.items():
        for sentence in sentences:
            if sentence.count("{}") != 1:
                raise ValueError(
                    f"{path}: {domain!r}: {sentence!r} must hold one {{}} for the class name"
                )
    if not templates.get(""):
        raise ValueError(f'{path}: the general templates under "" are missing')
    return templates


def domain_and_words(tree: Tree, class_name: str) -> tuple[str, str]:
    """A class's domain and its name in words: "Thu-dog_golden_retriever" -> Thu-dog, golden
    retriever. Only the contest's class names begin with a domain; elsewhere it is "".
    """
    domain, name = split_class_name(class_name) if tree.kind == "contest" else ("", class_name)
    return domain, name.replace("_", " ").strip()


def sentences_of(tree: Tree, templates: dict[str, list[str]]) -> list[list[str]]:
    """The sentences of each class: its domain's templates, or the general ones, filled with its
    name in words.
    """
    filled = []
    for class_name in tree.class_names:
        domain, words = domain_and_words(tree, class_name)
        filled.append([template.format(words) for template in templates.get(domain, templates[""])])
    return filled


def class_vectors(sentence_vectors: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """text_features[C,E]: the normalised mean of each class's normalised sentence vectors (CLIP,
    section 3.1.4).

    sentence_vectors[S,E] holds the classes' sentences one class after the other, counts[C] how many
    each has.
    """
    bounds = np.cumsum([0, *counts])
    unit = unit_rows(sentence_vectors)
    means = [unit[a:b].mean(axis=0) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return unit_rows(np.stack(means)).astype(np.float32)
