"""What no linter checks about the tree: its folders, its rules for names, and its one version.

import-linter holds the direction of imports (`[tool.importlinter]` in pyproject.toml).
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from runtime.paths import ROOT
from tests.helpers.machine import PACKAGES

MAX_MODULES = 15  # per folder
CODE = {  # {path: source} of everything but the tests
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(
        [*ROOT.glob("*.py"), *(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))]
    )
}


def test_no_folder_has_more_than_15_modules():
    modules = Counter(Path(file).parent for file in CODE if not file.endswith("__init__.py"))
    assert not {folder: count for folder, count in modules.items() if count > MAX_MODULES}


def test_one_module_steps_optimizers():
    trained = [file for file in CODE if not file.startswith(("scripts/", "benchmarks/"))]
    steps = [file for file in trained if "optimizer.step(" in CODE[file]]
    assert steps == ["engine/micro_batches.py"]


def test_only_the_private_copy_of_jittor_edits_the_search_path():
    edits = [file for file, text in CODE.items() if re.search(r"sys\.path\b[^\n]*[=(]", text)]
    assert edits == ["runtime/cuda13/private_copy.py"]


def defined_names(node: ast.stmt) -> list[str]:
    """Returns the names that a statement of a module defines, with the methods of a class."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return []
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [node.name] + [method.name for method in body if isinstance(method, ast.FunctionDef)]


def test_every_name_is_used_outside_the_tests():
    makers = (path.read_text(encoding="utf-8") for path in ROOT.glob("tests/golden/*/make.py"))
    texts = (re.sub(r'"""(?:.|\n)*?"""|#.*', "", text) for text in [*CODE.values(), *makers])
    uses = Counter(word for text in texts for word in re.findall(r"\w+", text))
    for file, text in CODE.items():
        names = {name for node in ast.parse(text).body for name in defined_names(node)}
        unused = {name for name in names if uses[name] < 2 and not name.startswith("__")}
        assert not unused, f"{file}: only tests use {unused}"


def test_lines_of_c_have_at_most_100_columns():  # ruff looks at Python alone
    files = list((ROOT / "kernels").glob("*.?pp"))
    long = [
        (path.name, line)
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line) > 100
    ]
    assert files and not long


@pytest.mark.parametrize("folder", ["prompts", "Dataset", "test_pkl"])
def test_folders_of_data_hold_no_python(folder):
    assert not list((ROOT / folder).rglob("*.py"))


def test_no_module_is_named_like_the_folder_of_data():  # case-blind disks
    assert not [file for file in CODE if file.lower().endswith("/dataset.py")]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_never_name_strangers(name):
    pinned = [line.split("==")[0].lower() for line in (ROOT / name).read_text().splitlines()]
    assert not {"jclip", "jimm", "torch"} & set(pinned)


def test_the_changelog_the_citation_and_the_package_have_one_version():
    newest = re.search(r"^## (\d+\.\d+\.\d+), (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {newest[1]}\n" in citation and f"date-released: {newest[2]}" in citation
    assert f'\nversion = "{newest[1]}"\n' in (ROOT / "pyproject.toml").read_text()
