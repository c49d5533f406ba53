"""Are the class texts in order, how much is there, which names were read otherwise than they stand?

python -m scripts.check_prompts check prompts/        or one file of class texts of your own
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime.environment import ensure_environment

if __name__ == "__main__":
    ensure_environment()

from engine.session import exit_on_error
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
from fewshot.text.prompt_rules import (
    common_opening,
    median_word_share,
    negative_problems,
    text_problems,
)


def check(path: Path) -> list[TextFile]:
    """The class texts in a folder laid out as `prompts/`, or in one file, with nothing wrong.

    Raises ValueError with one line for each problem.
    """
    if path.is_dir():
        files = read_text_files(path / CLASS_TEXTS.name)
        templates = load_templates(path / TEMPLATES.name)
        problems = negative_problems(load_negatives(path / NEGATIVES.name), files)
    else:
        files, templates, problems = [read_text_file(path)], load_templates(), []
    problems = text_problems(files, templates) + problems
    if not files:
        problems.append(f"{path / CLASS_TEXTS.name}: holds no file of class texts")
    if problems:
        raise ValueError("\n".join([*problems, f"{len(problems)} problems"]))
    return files


def main() -> None:
    """`check` prints the counts, `readings` the names that needed one, both with status 0 only
    where nothing is wrong.
    """
    program, words = "python -m scripts.check_prompts", __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog=program, description=words)
    commands = {"check": table, "readings": readings}
    parser.add_argument("command", choices=commands)
    parser.add_argument("path", type=Path, nargs="?", default=PROMPTS)
    given = parser.parse_args()
    with exit_on_error("scripts.check_prompts"):
        print(commands[given.command](check(given.path)))


def table(files: Sequence[TextFile]) -> str:
    """Counts and shares of each file, as Markdown."""
    names = ("file", "classes", "sentences", "fewest", "commonest opening", "shared words")
    rows: list[Sequence] = [names, ["---"] * len(names)]
    for file in files:
        each = [len(entry.sentences) for entry in file.classes]
        shares = f"{common_opening(file)[1]:.1%}", f"{median_word_share(file):.0%}"
        rows.append((f"`{file.path.name}`", len(each), sum(each), min(each), *shares))
    totals = [sum(row[column] for row in rows[2:]) for column in (1, 2)]
    rows.append(("all", *totals, "", "", ""))
    return _markdown(rows)


def readings(files: Sequence[TextFile]) -> str:
    """The classes whose names are errors, cut or ambiguous, and how they are read, as Markdown."""
    rows = [("file", "class", "name", "reading"), ["---"] * 4]
    for file in files:
        for entry in file.classes:
            if entry.reading:
                rows.append((f"`{file.path.name}`", f"`{entry.key}`", entry.name, entry.reading))
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    main()
