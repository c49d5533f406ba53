"""Reads the files in `prompts/`: class texts, one JSON file per data set, and templates.

Reading is strict: what `prompts/schema.json` does not describe is refused with the file's name.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

from data.lists import DataError, read_file
from runtime.paths import ROOT

PROMPTS = ROOT / "prompts"
TEMPLATES = PROMPTS / "templates.json"
CLASS_TEXTS = PROMPTS / "classes"
SCHEMA = PROMPTS / "schema.json"
MAX_BYTES = 1 << 24  # of a file; its JSON may take 30 times that in memory


@dataclass(frozen=True)
class ClassText:
    """The texts of one class."""

    key: str  # the name of the class in its data set
    name: str
    aliases: tuple[str, ...]
    superclass: str
    sentences: tuple[str, ...]
    reading: str = ""  # how an unclear key was understood, and why
    contest: bool = True  # whether the contest has the class


@dataclass(frozen=True)
class TextFile:
    """The class texts of one data set, in the file's order."""

    path: Path
    domain: str
    templates: str  # name of the set of templates
    size: int  # number of classes
    least: int  # least number of sentences per class
    classes: tuple[ClassText, ...]


def read_text_file(path: Path) -> TextFile:
    """Reads one file of class texts. Raises `DataError` naming the file and the problem."""
    content = read_json(path)
    try:
        _validator()(content)
    except fastjsonschema.JsonSchemaValueException as error:
        name = error.name or ""
        message = error.message.replace(name, name.replace("data.", "", 1), 1)
        raise DataError(f"{path}: {message} ({SCHEMA.name} has the format)") from None
    entries = [
        ClassText(
            entry["class"],
            entry["name"],
            tuple(entry["aliases"]),
            entry["superclass"],
            tuple(entry["sentences"]),
            entry.get("reading", ""),
            entry.get("contest", True),
        )
        for entry in content["classes"]
    ]
    header = {name: content[name] for name in ("domain", "templates", "size", "least")}
    return TextFile(path, classes=tuple(entries), **header)


def read_text_files(folder: Path) -> list[TextFile]:
    """Reads all files of class texts in a folder, in the order of their names."""
    return [read_text_file(path) for path in sorted(folder.glob("*.json"))]


def load_templates(path: Path = TEMPLATES) -> dict[str, list[str]]:
    """Reads {name of a set: its templates}.

    A template contains {} for the class's name once, and may contain {superclass} once. Raises
    `DataError` naming the file and the template.
    """
    templates = read_json(path)
    if not isinstance(templates, dict) or not templates.get("plain"):
        raise DataError(f'{path}: the set of templates "plain" is missing')
    for name, sentences in templates.items():
        if not sentences:
            raise DataError(f"{path}: {name!r} holds no template")
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            raise DataError(f"{path}: {name!r} must be a list of sentences")
        for sentence in sentences:
            rest = sentence.replace("{}", "", 1).replace("{superclass}", "", 1)
            if "{}" not in sentence or "{" in rest or "}" in rest:
                raise DataError(
                    f"{path}: {name!r}: {sentence!r} must hold one {{}} for the class name, "
                    "and at most one {superclass}"
                )
    return templates


def read_json(path: Path) -> Any:
    """Reads a JSON file in UTF-8.

    Raises `DataError` naming the file if it is not one, or a name occurs twice in an object.
    """
    content = read_file(path, MAX_BYTES)
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_make_object)
    except RecursionError:
        raise DataError(f"{path}: nests lists or objects too deep") from None
    except ValueError as error:  # of JSON, of UTF-8, or of `_make_object`
        raise DataError(f"{path}: {error}") from None


def _make_object(pairs: list[tuple[str, object]]) -> dict:
    result = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} occurs twice in one object")
        result[name] = value
    return result


@cache
def _validator():
    return fastjsonschema.compile(read_json(SCHEMA))
