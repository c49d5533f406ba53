"""The house holds: imports point down, torch stays out, files stay short."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import fewshot
from engine.code_version import FEATURES_CODE, PARTS_CODE

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("runtime", "jclip", "models", "fewshot", "recipes", "tools")
ENTRY_POINTS = {"train.py", "test.py", "scripts/doctor.py"}
GROUND = {"engine/config.py", "runtime/environment.py"}
LOOPS = {"engine/trainer.py", "fewshot/features/encoder.py"}
BUILT_ON = {
    "engine.trainer",
    "fewshot.features.encoder",
    "baselines.trainer",
}  # by what layer 3 holds too
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", "runtime", "jclip", "models", "fewshot", "recipes", "tools", "tests")
    for path in (ROOT / folder).glob("**/*.py" if folder else "*.py")
)


def layer(file: str) -> int:
    """0 is the ground floor, 5 what nobody imports."""
    room = file.split("/")[0]
    if file in GROUND:
        return 0
    if file in ENTRY_POINTS or room in ("tools", "tests"):
        return 5
    if room == "runtime":
        return 0
    if room in ("jclip", "models"):
        return 1
    if room == "recipes":
        return 4
    return 3 if file in LOOPS or imported(file) & BUILT_ON else 2


def imported(file: str) -> set[str]:
    """Dotted names of all imports of a file, those inside functions included."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def as_file(name: str) -> str | None:
    """The file of ours that a dotted name stands for."""
    path = name.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py"):
        if (ROOT / candidate).is_file() and candidate.split("/")[0] in ROOMS:
            return candidate
    return None


@pytest.mark.parametrize("file", [f for f in FILES if not f.startswith("tests/")])
def test_imports_point_down(file):
    for name in imported(file):
        target = as_file(name)
        if (
            target is None
            or target.endswith("__init__.py")
            and target.split("/")[0] == file.split("/")[0]
        ):
            continue
        assert layer(target) <= layer(file), f"{file} (layer {layer(file)}) imports {target}"
        assert layer(target) < 5 or file.startswith("tools/"), (
            f"{file} imports the entry point {target}"
        )
        if file.startswith("recipes/"):
            assert not target.startswith("recipes/"), f"{file} imports another recipe, {target}"


@pytest.mark.parametrize("file", FILES)
def test_torch_is_for_tools_and_tests(file):
    peers = {name.split(".")[0] for name in imported(file)} & {
        "torch",
        "torchvision",
        "timm",
        "transformers",
    }
    assert not peers or file.startswith(("tools/", "tests/")), f"{file} imports {peers}"


def test_one_optimizer_step():
    rooms = [f for f in FILES if layer(f) < 5]  # tools try a device out, and train nothing
    assert [f for f in rooms if "optimizer.step(" in (ROOT / f).read_text()] == [
        "engine/micro_batches.py"
    ]


@pytest.mark.parametrize("file", FILES)
def test_no_module_over_300_lines(file):
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= 300


def test_the_map_of_fewshot_has_every_module_once():
    rows = (fewshot.__doc__ or "").splitlines()[2:]
    named = sorted(name for row in rows for name in row[12:].split())
    assert named == sorted(Path(f).stem for f in FILES if re.fullmatch(r"fewshot/(?!__).*", f))


def test_no_function_over_a_screen():
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not file.startswith("tests/"):
                assert node.end_lineno - node.lineno < 55, f"{file}: {node.name}"


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines, those of a class's methods included."""
    if isinstance(node, ast.Assign):
        return [each.id for each in node.targets if isinstance(each, ast.Name)]
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return []
    inner = node.body if isinstance(node, ast.ClassDef) else []
    return [node.name] + [each.name for each in inner if isinstance(each, ast.FunctionDef)]


def test_nothing_stands_there_for_tests_alone():
    rooms = [file for file in FILES if not file.startswith("tests/")]
    code = {file: (ROOT / file).read_text(encoding="utf-8") for file in rooms}
    plain = "".join(re.sub(r'"""(?:.|\n)*?"""|#.*', "", text) for text in code.values())
    count = Counter(re.findall(r"\w+", plain))
    for file, text in code.items():
        names = {name for node in ast.parse(text).body for name in defined(node)}
        unused = {name for name in names if count[name] < 2 and not name.startswith("__")}
        assert not unused, f"{file}: nobody uses {unused}"


def test_no_line_of_c_over_100_columns():  # ruff looks at Python alone
    lines = [
        (path.name, line)
        for path in (ROOT / "kernels").glob("*.?pp")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert lines and not [name for name, line in lines if len(line) > 100]


def test_text_rooms_hold_no_python():
    for room in ("prompts", "Dataset", "test_pkl"):
        assert not [p for p in FILES if p.startswith(f"{room}/")] and not list(
            (ROOT / room).glob("*.py")
        )
    assert not [f for f in FILES if f.lower().endswith("/dataset.py")]  # case-blind disks


def test_requirements_never_name_strangers():
    for name in ("requirements.txt", "requirements-dev.txt"):
        pinned = [line.split("==")[0].lower() for line in (ROOT / name).read_text().splitlines()]
        assert not {"jclip", "jimm", "torch"} & set(pinned)


NEUTRAL = {  # what the main job imports and no part depends on: where things lie, and words
    "fewshot": """arrays code_lists config data files folders inputs lists runlog splits stages
        stopping""",
    "runtime": """bounded compiling cuda cuda13_edits download hashing private_copy rank toolkit
        zip_files""",
}


def test_parts_go_stale_with_any_code_that_made_them():
    seen, left = set(), ["recipes/clip_fewshot.py"]
    while left:
        seen.add(file := left.pop())
        left += {as_file(name) for name in imported(file)} - seen - {None}
    patterns = FEATURES_CODE + PARTS_CODE
    hashed = {path.relative_to(ROOT).as_posix() for each in patterns for path in ROOT.glob(each)}
    neutral = {f"{room}/{name}.py" for room, names in NEUTRAL.items() for name in names.split()}
    assert not neutral & hashed and neutral <= seen
    assert {file for file in seen if not file.endswith("__init__.py")} <= hashed | neutral


def test_one_version():
    """The newest release of the changelog is the one that is cited."""
    newest = re.search(r"^## (\d+\.\d+\.\d+), (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {newest[1]}\n" in citation and f"date-released: {newest[2]}" in citation
