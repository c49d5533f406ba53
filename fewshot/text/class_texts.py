"""From classes to sentences, and from sentence vectors to class vectors.

A class's sentences are templates filled with its name, then what `prompts/classes/` says of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.label_space import LabelSpace
from fewshot.text.prompt_files import (
    CLASS_TEXTS,
    TEMPLATES,
    ClassText,
    load_templates,
    read_text_file,
    read_text_files,
)
from models.normalize import unit_rows
from weight_files.hashing import sha256_of

WEIGHTINGS = ("uniform", "central")
OWN_TEMPLATES = "domain"  # the set that a class's file names


@dataclass(frozen=True)
class TextConfig:
    """The text stage."""

    classes: str = "auto"
    """class texts: those of prompts/classes that know these classes (auto), none, or a file"""
    templates: str = OWN_TEMPLATES
    """set of prompts/templates.json, as plain or ensemble; domain: the one of the class texts"""
    share: float = 0.5
    """weight of a class's own sentences in its vector, beside the templates; 0 to 1"""
    weighting: str = "uniform"
    """weights of a class's sentences: uniform, or central, less for those far from the others"""

    def __post_init__(self):
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting {self.weighting!r} is none of {', '.join(WEIGHTINGS)}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it is a share, 0 to 1")


@dataclass(frozen=True)
class Texts:
    """The words for each class of a data set."""

    names: list[str]  # [C], what each class is called in a sentence
    sentences: list[list[str]]  # of each class; the first is a template with its name
    templates: list[int]  # how many of each class's sentences are templates
    files: dict[str, str]  # SHA-256 of every file that was used


def texts_of(label_space: LabelSpace, config: TextConfig) -> Texts:
    """Returns what `prompts/` has for these classes.

    A class that no file knows gets templates filled with its name in words.

    Raises ValueError for an unknown set of templates, and where a file named in the configuration
    lacks a class.
    """
    templates = load_templates()
    if config.templates not in (OWN_TEMPLATES, *templates):
        raise ValueError(
            f"there is no set of templates {config.templates!r}; "
            f"there are {OWN_TEMPLATES}, {', '.join(templates)}"
        )
    known, used = class_texts(label_space, config.classes)
    names, sentences, filled_counts = [], [], []
    classes = zip(label_space.names, label_space.domains, label_space.words, strict=True)
    for class_name, domain, words in classes:
        own, kind = known.get(class_name, (ClassText(class_name, words, (), "", ()), domain))
        if config.templates != OWN_TEMPLATES:
            kind = config.templates
        filled = fill(templates.get(kind, templates["plain"]), own) or fill(templates["plain"], own)
        names.append(own.name)
        sentences.append([*filled, *own.sentences])
        filled_counts.append(len(filled))
    files = {path.name: sha256_of(path) for path in (TEMPLATES, *used)}
    return Texts(names, sentences, filled_counts, files)


def class_texts(
    label_space: LabelSpace, choice: str = "auto"
) -> tuple[dict[str, tuple[ClassText, str]], list[Path]]:
    """({class name: its text and the name of its templates}, the files these come from).

    `choice` is "auto", "none" or a file. A class with a domain is looked up in the domain's file.
    For other data one file must know every class: the one with the fewest further classes.
    """
    if choice == "none":
        return {}, []
    files = read_text_files(CLASS_TEXTS) if choice == "auto" else [read_text_file(Path(choice))]
    if not label_space.has_domains and choice == "auto":
        wanted = set(label_space.names)
        files = [file for file in files if wanted <= {entry.key for entry in file.classes}]
        files = sorted(files, key=lambda file: len(file.classes))[:1]
    known = {
        (file.domain if label_space.has_domains else "", entry.key): (entry, file)
        for file in files
        for entry in file.classes
    }
    keys = zip(label_space.names, label_space.domains, label_space.keys, strict=True)
    found = {name: known[domain, key] for name, domain, key in keys if (domain, key) in known}
    if choice != "auto":
        for name in label_space.names:
            if name not in found:
                raise ValueError(f"{choice}: lacks the class {name!r}")
    used = sorted({file.path for _, file in found.values()})
    return {name: (entry, file.templates) for name, (entry, file) in found.items()}, used


def fill(templates: Sequence[str], text: ClassText) -> list[str]:
    """The templates with a class's name and super-class, without those that need one it lacks."""
    return [
        template.replace("{superclass}", text.superclass).replace("{}", text.name)
        for template in templates
        if text.superclass or "{superclass}" not in template
    ]


def sentence_weights(
    texts: Texts, sentence_vectors: np.ndarray, config: TextConfig
) -> list[np.ndarray]:
    """The weight of each sentence in its class's vector, sum 1 a class; `share` for its own
    sentences together, the rest for its templates.

    sentence_vectors[S,E] holds the classes' sentences one class after the other. Of `central`, each
    group's weights fall with the squared distance to its mean, as a normal density whose variance
    is the group's own mean squared distance.
    """
    unit, weights, start = unit_rows(sentence_vectors.astype(float)), [], 0
    for sentences, count in zip(texts.sentences, texts.templates, strict=True):
        rows = unit[start : start + len(sentences)]
        start += len(sentences)
        share = config.share if len(sentences) > count else 0
        groups = ((1 - share, rows[:count]), (share, rows[count:]))
        weights.append(np.concatenate([part * _spread(g, config) for part, g in groups]))
    return weights


def _spread(rows: np.ndarray, config: TextConfig) -> np.ndarray:
    """Weights [M], sum 1, of a group of sentence vectors [M,E]."""
    density = np.ones(len(rows))
    if config.weighting == "central" and len(rows) > 1:
        away = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
        if away.mean() > 0:
            density = np.exp(-away / (2 * away.mean()))
    return density / density.sum() if len(rows) else density


def class_vectors(
    sentence_vectors: np.ndarray, weights: Sequence[Sequence[float] | np.ndarray]
) -> np.ndarray:
    """text_features[C,E]: of each class the normalised weighted sum of its normalised sentence
    vectors; with equal weights CLIP's ensemble (its section 3.1.4).

    sentence_vectors[S,E] holds the classes' sentences one class after the other, weights[C] one
    weight for each of them.
    """
    bounds = np.cumsum([0, *map(len, weights)])
    unit = unit_rows(sentence_vectors)
    sums = [
        np.asarray(each) @ unit[a:b]
        for a, b, each in zip(bounds[:-1], bounds[1:], weights, strict=True)
    ]
    return unit_rows(np.stack(sums)).astype(np.float32)
