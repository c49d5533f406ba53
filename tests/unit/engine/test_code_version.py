"""Keys of code ignore words, change with every operator, and cover all code that is imported."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.code_version import code_digest, code_files, code_hashes, file_digest
from fewshot.stages.record import TRAINING
from runtime.paths import ROOT
from tests.helpers.machine import PACKAGES

FEATURES = "fewshot.features.encoder"  # the module whose code features depend on
PARTS = TRAINING  # that of trained parts
CHUNKS = "fewshot.inference.scorer"  # that of scored chunks
KEYS = (FEATURES, PARTS, CHUNKS)


@pytest.fixture
def kit(tmp_path):
    """A copy of the code to change."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    return tmp_path


def keys(root: Path) -> dict[str, str]:
    return {module: code_digest([module], "1.3", root) for module in KEYS}


def cut(text: str, node: ast.AST, replacement: str) -> str:
    """Returns source text with one node replaced; the source is ASCII on the lines of the node."""
    lines = text.splitlines(keepends=True)
    first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
    changed = first[: node.col_offset] + replacement + last[node.end_col_offset :]
    return "".join([*lines[: node.lineno - 1], changed, *lines[node.end_lineno :]])


def reword(text: str) -> str:
    """Replaces every docstring and every help text below a field; adds a comment and a blank."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    for node in sorted(strings, key=lambda node: node.lineno, reverse=True):
        text = cut(text, node, '"""Other words,\n\nin more lines."""')
    return text + "\n\n# a comment\n"


def subtract(text: str) -> str:
    """Replaces the first sum by a difference."""
    sums = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.BinOp))
    node = next(node for node in sums if isinstance(node.op, ast.Add))
    return cut(text, node, f"({ast.unparse(node.left)} - ({ast.unparse(node.right)}))")


def edit(path: Path, change) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_other_words_in_every_module_of_every_package_leave_all_keys(kit):
    before = keys(kit)
    for path in kit.rglob("*.py"):
        edit(path, reword)
    for path in kit.rglob("*.hpp"):
        edit(path, lambda text: f"// other words\n{text}/* and\n more */\n")
    assert keys(kit) == before


def test_the_report_is_in_no_key(kit):
    before = keys(kit)
    edit(kit / "fewshot/evaluation/report/page.html.jinja", lambda text: text + "<p>More.</p>\n")
    for path in (kit / "fewshot/evaluation").rglob("*.py"):
        edit(path, lambda text: text + "\nVALUE = 1\n")
    assert keys(kit) == before


@pytest.mark.parametrize(
    ("file", "change", "changed"),
    [
        ("data/views.py", subtract, KEYS),
        ("jclip/preprocess.py", subtract, KEYS),
        ("kernels/linear.hpp", lambda text: text.replace("+=", "-=", 1), KEYS),
        ("models/heads/gda.py", subtract, (PARTS, CHUNKS)),
        ("fewshot/text/class_texts.py", subtract, (PARTS,)),
        ("fewshot/stages/prompt.py", subtract, (PARTS,)),
        ("engine/trainer.py", subtract, (PARTS,)),
        ("fewshot/inference/ensemble.py", subtract, (CHUNKS,)),
    ],
)
def test_another_operator_changes_the_keys_that_depend_on_it(kit, file, change, changed):
    before = keys(kit)
    edit(kit / file, change)
    after = keys(kit)
    assert {module for module in KEYS if after[module] != before[module]} == set(changed)


def test_another_jittor_is_another_version():
    assert code_digest([FEATURES], "1.3") != code_digest([FEATURES], "1.4")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("x = 1  # one", "x = 1", True),
        ('def f():\n    "a"\n    return 1', 'def f():\n    "b"\n    return 1', True),
        ("raise ValueError(f'{x} is a')", "raise ValueError('another')", True),
        ("if x:\n    print('a', x)", "if x:\n    print('b')", True),
        ("x = 'a'", "x = 'b'", False),
        ("raise ValueError('a')", "raise TypeError('a')", False),
        ("f(1)", "f(2)", False),
        ("x = None", "x = 0", False),
        ("x = {}", "x = []", False),
        ("f(a, b)", "f(b, a)", False),
    ],
)
def test_words_of_python(tmp_path, one, two, same):
    (tmp_path / "one.py").write_text(one)
    (tmp_path / "two.py").write_text(two)
    assert (file_digest(tmp_path / "one.py") == file_digest(tmp_path / "two.py")) == same


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("a = b + c; // sum", "a=b  +\n c;/* the\n sum */", True),
        ('f("a // b");', 'f("a // c");', False),
        ("int a;", "inta;", False),
        ("a = b + c;", "a = b - c;", False),
    ],
)
def test_words_of_cpp(tmp_path, one, two, same):
    (tmp_path / "one.hpp").write_text(one)
    (tmp_path / "two.hpp").write_text(two)
    assert (file_digest(tmp_path / "one.hpp") == file_digest(tmp_path / "two.hpp")) == same


def test_what_is_no_code_has_the_digest_of_its_bytes(tmp_path):
    for content in (b"def", b"x = \x00", b"\xff"):
        (tmp_path / "a.py").write_bytes(content)
        assert code_hashes(["a"], tmp_path) == {"a.py": file_digest(tmp_path / "a.py")}


@pytest.mark.slow
@pytest.mark.parametrize("module", [PARTS, CHUNKS])
def test_the_code_of_a_module_is_all_of_the_kit_that_it_imports(module):
    lines = (
        f"import {module}, sys\nfor m in sys.modules.values(): print(getattr(m, '__file__', ''))"
    )
    command = [sys.executable, "-c", lines]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    packages = {ROOT / name for name in PACKAGES}
    files = {Path(line) for line in ended.stdout.splitlines()}
    loaded = {file for file in files if packages & set(file.parents)}
    assert len(loaded) > 50 and loaded <= set(code_files([module]))
