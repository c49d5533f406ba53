"""A Python without the packages continues in the kit's `.venv`."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
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


def is_ready(folder: Path, pins: Path) -> bool:
    """Returns whether environment.sh takes this Python for one that is ready in the folder."""
    command = f". {ROOT}/scripts/environment.sh; is_ready {sys.executable} {pins}"
    return subprocess.run(["bash", "-c", command], cwd=folder, check=False).returncode == 0


def test_ready_means_the_pinned_versions_and_the_kit_of_this_folder(tmp_path):
    try:
        source = distribution("jittor-fewshot-clip").read_text("direct_url.json")
    except PackageNotFoundError:
        pytest.skip("the kit is not installed in this Python")
    folder = Path(json.loads(source)["url"].removeprefix("file://"))
    right, wrong = tmp_path / "right.txt", tmp_path / "wrong.txt"
    right.write_text(f"numpy=={version('numpy')}  # arrays\n")
    wrong.write_text("numpy==0.1\n")
    assert is_ready(folder, right)
    assert not is_ready(folder, wrong)
    assert not is_ready(tmp_path, right)  # its scripts would import the modules of `folder`
