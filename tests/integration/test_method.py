"""docs/method.md speaks of what is there: its figure, its files, its names and their defaults."""

import ast
import re
from pathlib import Path

import pytest

from scripts.draw_method import SVG, WAYS, svg

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
FILES = set(re.findall(r"`([\w/]+/\w+\.\w+)`", PAGE))
NAMES = set(re.findall(r"`([A-Za-z]\w*(?:\.\w+)+)`", PAGE))
PAIR = r'`(\w+)` ("[^"]*"|\([^)]*\)|True|False|\d+(?:\.\d+)?(?:e-?\d+)?)'
DEFAULTS = [  # "`module.owner`: `name` value, `name` value"
    (found[1], name, value)
    for found in re.finditer(rf"`([\w.]+)`:((?:\s+{PAIR},?)+)", PAGE)
    for name, value in re.findall(PAIR, found[2])
]


def module_of(name: str) -> tuple[Path, list[str]]:
    """The file that a dotted name begins with, in fewshot/ where no folder is named, and the rest
    of the name.
    """
    parts = name.split(".")
    for folder in (ROOT, ROOT / "fewshot"):
        for end in range(len(parts), 0, -1):
            file = folder.joinpath(*parts[:end]).with_suffix(".py")
            if file.is_file():
                return file, parts[end:]
    raise AssertionError(f"{name}: no such module")


def node_of(name: str) -> ast.AST:
    """The module, class, function or assignment that a dotted name stands for."""
    file, rest = module_of(name)
    node: ast.AST = ast.parse(file.read_text(encoding="utf-8"))
    for part in rest:
        inner = {child.name: child for child in node.body if hasattr(child, "name")}
        node = (assigned(node) | inner)[part]
    return node


def assigned(node: ast.AST) -> dict[str, ast.expr]:
    """{name: expression} of a body's plain assignments, and of its own or __init__'s defaults."""
    found = {}
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and child.value:
            found[child.target.id] = child.value
        elif isinstance(child, ast.Assign):
            target, value = child.targets[0], child.value
            if isinstance(target, ast.Name):
                found[target.id] = value
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                found |= {t.id: v for t, v in zip(target.elts, value.elts, strict=True)}
    functions = [node, *(c for c in node.body if getattr(c, "name", "") == "__init__")]
    for arguments in (each.args for each in functions if isinstance(each, ast.FunctionDef)):
        last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
        found |= {a.arg: v for a, v in zip(last, arguments.defaults, strict=True)}
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        found |= {a.arg: value for a, value in pairs if value}
    return found


def test_the_figure_is_drawn_by_the_script():
    assert svg() == SVG.read_bytes()
    assert len(svg()) < 60_000


def test_the_figure_has_the_shares_of_the_blend():
    blend = ast.literal_eval(node_of("classifier.BLEND"))
    shown = {way: float(beside) for way, beside in WAYS if beside.startswith(".")}
    assert shown == {
        "LP++ on channels [K]": blend["+ channel re-weighting"],
        "LoRA [K]": blend["+ LoRA"],
        "prompt queue [K]": blend["+ prompt queue"],
        "zero-shot + GDA [K]": blend["zero-shot + GDA"],
    }
    words = [f".{round(10 * blend[way])} " for way in blend]
    assert re.findall(r"\.\d ", re.search(r"^    base = .*$", PAGE, re.MULTILINE)[0]) == words


@pytest.mark.parametrize("file", sorted(FILES))
def test_files_are_there(file):
    assert (ROOT / file).is_file()


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert links and not [link for link in links if not (ROOT / "docs" / link).is_file()]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_are_there(name):
    assert node_of(name)


@pytest.mark.parametrize("owner, name, value", DEFAULTS)
def test_defaults_are_the_codes(owner, name, value):
    assert ast.literal_eval(assigned(node_of(owner))[name]) == ast.literal_eval(value)


def test_the_page_was_understood():
    assert len(FILES) > 15 and len(NAMES) > 40 and len(DEFAULTS) > 40
    assert len(DEFAULTS) == len(re.findall(PAIR, PAGE))
