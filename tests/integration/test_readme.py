"""The commands in README's code blocks run, and every page names fields that exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from engine.config import parse
from runtime.paths import ROOT
from scripts import make_demo
from tests.helpers.photos import write_photos
from tests.helpers.tiny_clip import write_tiny_clip

README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md")), ROOT / "slurm/README.md"]
NOT_HERE = (  # beginnings of commands: why they do not run here, or which test runs them
    "git clone",  # needs a network
    "cd ",
    "bash train.sh --demo",  # takes minutes; .ci/run
    "bash tests/run.sh",  # this suite; .ci/run
    "pip install",  # needs a network
    ".venv/bin/pip",
    "mpirun",  # test_ranks.py
    "sbatch",  # test_slurm.py
    "python benchmarks/",  # test_bench.py
    "python -m scripts.check_device",  # test_check_device.py
    "python train.py simclr",  # need public data sets; test_baselines.py
    "python train.py linear_eval",
    "python train.py caltech_finetune",
    "python train.py clip_cifar",
    "python train.py student_teacher",
)
IMAGES = 5  # of the copy's test set


def code_blocks(page: Path, language: str) -> list[str]:
    """Returns the contents of a page's fenced blocks of one language; "" for those of none."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Returns the commands of a page's blocks of no language, `sh` or `bash`, without comments."""
    blocks = [block for name in ("", "sh", "bash") for block in code_blocks(page, name)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    stripped = [re.split(r"\s+#", line)[0].strip() for line in lines]
    return [line for line in stripped if re.match(r"(python|bash|mpirun|sbatch|pip|git|cd) ", line)]


def fields_of(command: str) -> list[str]:
    """Returns the words from `train.py` or `test.py` on; none for another command."""
    words = shlex.split(command)
    starts = [number for number, word in enumerate(words) if word in ("train.py", "test.py")]
    return words[starts[0] :] if starts else []


FIELDS = sorted({" ".join(fields_of(command)) for page in PAGES for command in commands(page)})[1:]


@pytest.mark.parametrize("words", FIELDS)
def test_every_field_exists(words):
    program, *fields = words.split(" ")
    recipe = fields.pop(0) if program == "train.py" else "predict"
    if "--help" not in fields:
        parse(import_module(f"recipes.{recipe}").Config, fields, program)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree with the embedded contest, a tiny CLIP and a folder of photos."""
    folder = tmp_path_factory.mktemp("copy")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if not name.startswith("tests/") and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    make_demo.make(folder / "demo", 0)
    shutil.copytree(folder / "demo", folder / "Dataset", dirs_exist_ok=True)
    for surplus in sorted((folder / "Dataset/TestSetB").iterdir())[IMAGES:]:
        surplus.unlink()
    write_tiny_clip(folder / "ViT-B-32.pkl")
    write_photos(folder / "photos")
    shutil.copytree(folder / "photos/test/red", folder / "folder/of/test/images")
    return folder


def test_the_commands_of_the_readme_run(copy):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "nvcc_path": ""}
    run = [command for command in commands(README) if not command.startswith(NOT_HERE)]
    assert "python test.py" in run
    for command in run:
        words = shlex.split(command)
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command == "python test.py":
            assert (copy / "result.txt").read_text().count("\n") == IMAGES


def test_the_library_as_shown(copy):
    (code,) = code_blocks(README, "python")
    shutil.copy(copy / "photos/train/red/0.png", copy / "dog.jpg")
    code = f"{code}\nprint(logits_per_image.shape, logits_per_text.shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[1,2,] [2,1,]"
