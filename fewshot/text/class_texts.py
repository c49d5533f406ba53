"""Finds the sentences of each class, and averages sentence vectors to class vectors.

The sentences of a class are templates filled with its name, then those in `prompts/classes/`.
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
DOMAIN_TEMPLATES = "domain"  # the set of templates that the file of a class names


@dataclass(frozen=True)
class TextConfig:
    """Settings of the text stage."""

    classes: str = "auto"
    """class texts: auto (the files of prompts/classes that know these classes), none, or a file"""
    templates: str = DOMAIN_TEMPLATES
    """set of templates in prompts/templates.json; domain: the one that the class texts name"""
    share: float = 0.5
    """weight of a class's own sentences in its vector, next to the templates; 0 to 1"""
    weighting: str = "uniform"
    """weights of a class's sentences: uniform, or central (less if far from the others)"""

    def __post_init__(self):
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting {self.weighting!r} is none of {', '.join(WEIGHTINGS)}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be between 0 and 1")


@dataclass(frozen=True)
class Texts:
    """The name and sentences of each class of a data set."""

    names: list[str]  # [C], as they are written in sentences
    sentences: list[list[str]]  # of each class: filled templates, then its own sentences
    template_counts: list[int]  # [C], filled templates among the sentences
    files: dict[str, str]  # SHA-256 of every file that was used


def load_texts(label_space: LabelSpace, config: TextConfig) -> Texts:
    """Returns the texts in `prompts/` of these classes.

    A class that no file knows gets templates filled with its name in words. Raises ValueError for
    an unknown set of templates, and if a file named in the configuration lacks a class.
    """
    templates = load_templates()
    if config.templates not in (DOMAIN_TEMPLATES, *templates):
        raise ValueError(
            f"there is no set of templates {config.templates!r}; "
            f"there are {DOMAIN_TEMPLATES}, {', '.join(templates)}"
        )
    class_texts, used_files = find_class_texts(label_space, config.classes)
    names, sentences, template_counts = [], [], []
    classes = zip(label_space.names, label_space.domains, label_space.words, strict=True)
    for class_name, domain, words in classes:
        name_only = ClassText(class_name, words, (), "", ())
        text, template_set = class_texts.get(class_name, (name_only, domain))
        if config.templates != DOMAIN_TEMPLATES:
            template_set = config.templates
        filled = fill_templates(templates.get(template_set, []), text)
        if not filled:
            filled = fill_templates(templates["plain"], text)
        names.append(text.name)
        sentences.append([*filled, *text.sentences])
        template_counts.append(len(filled))
    files = {path.name: sha256_of(path) for path in (TEMPLATES, *used_files)}
    return Texts(names, sentences, template_counts, files)


def find_class_texts(
    label_space: LabelSpace, choice: str = "auto"
) -> tuple[dict[str, tuple[ClassText, str]], list[Path]]:
    """Returns {class name: (its text, the name of its templates)}, and the files they come from.

    `choice` is "auto", "none" or a file. A class with a domain is looked up in the domain's file.
    For other data one file must know every class; of several, the one with the fewest classes.
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
    by_name = {name: known[domain, key] for name, domain, key in keys if (domain, key) in known}
    if choice != "auto":
        for name in label_space.names:
            if name not in by_name:
                raise ValueError(f"{choice}: lacks the class {name!r}")
    used_files = sorted({file.path for _, file in by_name.values()})
    return {name: (entry, file.templates) for name, (entry, file) in by_name.items()}, used_files


def fill_templates(templates: Sequence[str], text: ClassText) -> list[str]:
    """Returns the templates with a class's name and super-class filled in.

    Templates with a super-class are left out if the class has none.
    """
    return [
        template.replace("{superclass}", text.superclass).replace("{}", text.name)
        for template in templates
        if text.superclass or "{superclass}" not in template
    ]


def weigh_sentences(
    texts: Texts, sentence_vectors: np.ndarray, config: TextConfig
) -> list[np.ndarray]:
    """Returns the weights of each class's sentences, with sum 1 per class.

    A class's own sentences share the weight `config.share`, its templates the rest.
    sentence_vectors[S,E] are those of all classes, one class after the other. With "central", the
    weights of each group fall with the squared distance to its mean, as a normal density whose
    variance is the group's mean squared distance.
    """
    unit, weights, start = unit_rows(sentence_vectors.astype(float)), [], 0
    for sentences, count in zip(texts.sentences, texts.template_counts, strict=True):
        rows = unit[start : start + len(sentences)]
        start += len(sentences)
        share = config.share if len(sentences) > count else 0
        templates = (1 - share) * _group_weights(rows[:count], config)
        own_sentences = share * _group_weights(rows[count:], config)
        weights.append(np.concatenate([templates, own_sentences]))
    return weights


def _group_weights(rows: np.ndarray, config: TextConfig) -> np.ndarray:
    """Returns weights [M], with sum 1, of a group of sentence vectors [M,E]."""
    density = np.ones(len(rows))
    if config.weighting == "central" and len(rows) > 1:
        distances = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
        if distances.mean() > 0:
            density = np.exp(-distances / (2 * distances.mean()))
    return density / density.sum() if len(rows) else density


def compute_class_vectors(
    sentence_vectors: np.ndarray, weights: Sequence[Sequence[float] | np.ndarray]
) -> np.ndarray:
    """Returns text_features[C,E]: the normalised weighted sums of normalised sentence vectors.

    sentence_vectors[S,E] are those of all classes, one class after the other; weights[C] has one
    array of weights per class. With equal weights this is CLIP's ensemble (its section 3.1.4).
    """
    unit, sums, start = unit_rows(sentence_vectors), [], 0
    for class_weights in weights:
        end = start + len(class_weights)
        sums.append(np.asarray(class_weights) @ unit[start:end])  # [E]
        start = end
    return unit_rows(np.stack(sums)).astype(np.float32)
