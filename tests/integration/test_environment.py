"""A Python without the packages continues in the kit's `.venv`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import environment
from runtime.paths import ROOT

COMMANDS = [
    *(["train.py"], ["test.py"], ["-m", "tests.robustness.fuzz"]),
    *(
        ["-m", f"scripts.{name}"]
        for name in """audit check_device check_prompts doctor get_data grid make_demo
            make_split sweep validate""".split()
    ),
]
BARE = Path(sys._base_executable)


def bare(*words: str) -> subprocess.CompletedProcess:
    """Runs the Python that this environment was made of, without the packages of its users."""
    command = [str(BARE), "-s", *words]
    variables = {name: os.environ[name] for name in ("HOME", "PATH")}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


def has_packages() -> bool:
    """Whether that Python has Jittor itself."""
    return bare("-c", "import importlib.util as u; exit(not u.find_spec('jittor'))").returncode == 0


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="the tests do not run in .venv")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_a_bare_python_goes_on_in_the_kits_environment(command):
    if has_packages():
        pytest.skip(f"{BARE} has the packages itself")
    result = bare(*command, "--help")
    assert result.returncode == 0 and result.stdout, result.stderr


def test_without_any_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="has no jittor: `pip install -r requirements.txt`, or"):
        environment.ensure_environment()


def test_an_environment_that_lacks_them_is_not_entered_for_ever():
    """`-S` hides every installed package."""
    command = [sys.executable, "-S", "-m", "scripts.audit"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and f"{sys.executable} has no tyro: " in result.stderr


def test_a_python_with_the_kit_of_another_folder_is_not_ready(tmp_path):
    """Its scripts would import the modules of that folder."""
    (tmp_path / "none.txt").write_text("# no packages\n")
    command = f". {ROOT}/scripts/environment.sh; is_ready {sys.executable} none.txt"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False).returncode == 1


def test_a_python_without_the_pinned_version_is_not_ready():
    command = f". scripts/environment.sh; is_ready {sys.executable} <(echo numpy==0.1)"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 1
