"""Checks the class texts, and prints how many there are or which names were unclear.

python -m scripts.check_prompts check prompts/           a folder laid out as prompts/
python -m scripts.check_prompts check my_classes.json    one file of class texts
python -m scripts.check_prompts readings                 unclear names of classes
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.environment import ensure_environment

if __name__ == "__main__":
    ensure_environment()

from tyro.conf import Positional

from engine.config import parse
from engine.session import exit_on_error
from fewshot.text.checks import (
    compute_word_share,
    find_common_opening,
    find_negative_problems,
    find_text_problems,
)
from fewshot.text.negatives import NEGATIVES, load_negatives
from fewshot.text.prompt_files import (
    CLASS_TEXTS,
    PROMPTS,
    TEMPLATES,
    TextFile,
    load_templates,
    read_text_file,
    read_text_files,
)
from runtime.table import table


def check(path: Path) -> list[TextFile]:
    """Returns the class texts in a folder laid out as `prompts/`, or in one file.

    Raises ValueError with one line per problem if anything is wrong with them.
    """
    if path.is_dir():
        files = read_text_files(path / CLASS_TEXTS.name)
        templates = load_templates(path / TEMPLATES.name)
        problems = find_negative_problems(load_negatives(path / NEGATIVES.name), files)
    else:
        files, templates, problems = [read_text_file(path)], load_templates(), []
    problems = find_text_problems(files, templates) + problems
    if not files:
        problems.append(f"{path / CLASS_TEXTS.name}: holds no file of class texts")
    if problems:
        raise ValueError("\n".join([*problems, f"{len(problems)} problems"]))
    return files


@dataclass(frozen=True)
class Config:
    """Checks the class texts."""

    command: Positional[Literal["check", "readings"]]
    """table to print after the checks"""
    path: Positional[Path] = PROMPTS
    """folder laid out as prompts/, or one file"""


def main() -> None:
    """Runs the command `check` or `readings`; the status is 0 only if nothing is wrong."""
    config = parse(Config, sys.argv[1:], "check_prompts")
    formats = {"check": format_counts, "readings": format_readings}
    with exit_on_error("check_prompts"):
        print(formats[config.command](check(config.path)))


def format_counts(files: Sequence[TextFile]) -> str:
    """Returns the counts and shares of each file as a Markdown table."""
    header = ("file", "classes", "sentences", "fewest", "commonest opening", "shared words")
    rows: list[tuple] = []
    for file in files:
        counts = [len(entry.sentences) for entry in file.classes]
        opening, words = find_common_opening(file)[1], compute_word_share(file)
        shares = f"{opening:.1%}", f"{words:.0%}"
        rows.append((f"`{file.path.name}`", len(counts), sum(counts), min(counts), *shares))
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows), "", "", ""))
    return table(rows, header, markdown=True)


def format_readings(files: Sequence[TextFile]) -> str:
    """Returns the classes with misspelt, cut or ambiguous names, and how they were understood."""
    rows = [
        (f"`{file.path.name}`", f"`{entry.key}`", entry.name, entry.reading)
        for file in files
        for entry in file.classes
        if entry.reading
    ]
    return table(rows, ("file", "class", "name", "reading"), markdown=True)


if __name__ == "__main__":
    main()
