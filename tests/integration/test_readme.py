"""Every command in README.md is executed: here, in a copy of the tree, or by a test named below."""

import json
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
from fewshot.evaluation.scores import as_text
from tests.helpers.kit import ROOT, script, write_tiny_clip
from tests.helpers.photos import write_photos

README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTS = ("bash", "python", ".venv/bin/pip", "mpirun", "sbatch")
IMAGES = 5  # of the copy's test set
PLACEHOLDERS = {"FILE": "result.txt", "FOLDER": "."}
HERE = {  # in this order in the copy, and what each prints
    "python -m scripts.doctor": "classes",
    "bash train.sh": "split: drew 4 images a class",
    "python test.py": f"{IMAGES} images -> result.txt, valid",
    "python -m scripts.validate FILE": "valid",
    "python -m scripts.audit FOLDER": "ok",
    "python test.py --verify manifest.json": "identical",
    "python train.py clip_fewshot --help": "--lora.epochs",
    "python test.py --help": "--views",
    "python train.py clip_fewshot --data photos": "ood: wrote test_pkl/ood.pkl",
    "python test.py --data photos --split folder/of/test/images": "4 images -> result.txt, valid",
}
ELSEWHERE = {  # the beginning of a command: what runs it with data of a test's size
    "bash train.sh --demo": ".ci/run",
    "bash tests/run.sh": ".ci/run",
    "python -m tests.robustness.interrupt": "tests/robustness/test_interrupted.py",
    "python benchmarks/bench.py image": "tests/integration/test_bench.py::test_every_way_runs",
    "python train.py clip_cifar": "tests/integration/test_baselines.py::test_clip_four_ways",
    "python train.py simclr": "tests/integration/test_baselines.py::test_simclr_then_linear_evaluation",  # noqa: E501
    "python train.py linear_eval": (
        "tests/integration/test_baselines.py::test_simclr_then_linear_evaluation"
    ),
    "python train.py caltech_finetune": (
        "tests/integration/test_baselines.py::test_fine_tuning_unfreezes_what_it_is_told"
    ),
    "python train.py student_teacher": "tests/integration/test_baselines.py::test_student_and_teacher",  # noqa: E501
    "python -m scripts.grid": (
        "tests/integration/test_baselines.py::test_a_grid_goes_on_and_has_one_table"
    ),
    "python -m scripts.get_data": "tests/unit/baselines/test_archives.py::test_the_tool_prints_the_place",  # noqa: E501
    "mpirun -np 4 --bind-to none python train.py": (
        "tests/integration/test_ranks.py::test_the_main_job_is_the_same_on_1_2_and_4_ranks"
    ),
    "mpirun -np 4 --bind-to none python test.py": (
        "tests/integration/test_ranks.py::test_the_main_job_is_the_same_on_1_2_and_4_ranks"
    ),
    "sbatch slurm/train_from_pretrain.sbatch": (
        "tests/integration/test_slurm.py::test_a_preempted_job_goes_on_by_itself_to_the_same_bytes"
    ),
    "sbatch slurm/train_from_scratch.sbatch": (
        "tests/integration/test_slurm.py::test_a_mistake_fails_with_one_line_and_a_cancelled_job_stays_so"
    ),
    "sbatch --array=1-8 slurm/test.sbatch": (
        "tests/integration/test_slurm.py::test_shards_of_an_array_merge_to_the_whole_result"
    ),
    "sbatch --array=1-5 slurm/sweep.sbatch": (
        "tests/integration/test_slurm.py::test_an_array_of_seeds_becomes_one_table"
    ),
    "python -m scripts.check_device": "tests/integration/test_check_device.py::test_all_is_ok",
    ".venv/bin/pip install -r requirements-cuda13.txt": "tests/unit/runtime/test_cuda13.py",
}


def commands(text: str) -> list[str]:
    """Those in code blocks, a line each without its comment, and those between backticks."""
    found, prose, fenced = [], [], False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            found.append(re.split(r"\s{2,}#", line)[0].strip())
        else:
            prose.append(line)
    found += re.findall(r"`([^`]+)`", "\n".join(prose))
    return [each for each in found if each.split(" ")[0] in STARTS and " " in each]


COMMANDS = commands(README)


def test_every_command_is_run_somewhere():
    assert len(COMMANDS) > 25
    for command in COMMANDS:
        known = command in HERE or any(command.startswith(each) for each in ELSEWHERE)
        assert known, f"no test runs {command!r}"
    for table in (HERE, ELSEWHERE):
        for command in table:
            assert any(each.startswith(command) for each in COMMANDS), f"README lacks {command!r}"


@pytest.mark.parametrize("place", sorted(set(ELSEWHERE.values())))
def test_what_runs_it_is_there(place):
    file, _, test = place.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text
    begins = [command for command, where in ELSEWHERE.items() if where == place]
    for command in begins if file.endswith("run") else ():
        assert f"\n{command}\n" in text


@pytest.mark.parametrize("command", [each for each in COMMANDS if " train.py " in each])
def test_every_field_is_one(command):
    name, *fields = shlex.split(command.partition(" train.py ")[2])
    if "--help" not in fields:
        parse(import_module(f"recipes.{name}").Config, fields, "train.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tree as a user has it, with the embedded contest, a tiny CLIP, and photos."""
    folder = tmp_path_factory.mktemp("copy")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        if not name.startswith("tests/") and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    script("scripts/make_demo.py").make(folder / "made", 0)
    shutil.copytree(folder / "made", folder / "Dataset", dirs_exist_ok=True)
    for surplus in sorted((folder / "Dataset/TestSetB").iterdir())[IMAGES:]:
        surplus.unlink()
    write_tiny_clip(folder / "ViT-B-32.pkl")
    write_photos(folder / "photos")
    shutil.copytree(folder / "photos/test/red", folder / "folder/of/test/images")
    return folder


@pytest.fixture(scope="module")
def outputs(copy):
    """{command: what it printed} of the commands in HERE, run one after another."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "nvcc_path": ""}
    printed = {}
    for command in HERE:
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed[command] = done.stdout
    return printed


@pytest.mark.parametrize("command", HERE)
def test_the_command_says(outputs, command):
    assert HERE[command] in outputs[command]


def test_the_library_as_shown(copy):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    (copy / "dog.jpg").write_bytes((copy / "photos/train/red/0.png").read_bytes())
    code = f"import PIL.Image\n{code}\nprint(logits_per_image.shape, logits_per_text.shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[1,2,] [2,1,]"


def rows(text: str) -> list[list[str]]:
    """Each line's words, without the seconds that a stage took."""
    table, _, rest = text.partition("\n\nchoosing")
    return [line.split()[:-1] for line in table.splitlines()] + [
        line.split() for line in f"choosing{rest}".splitlines()
    ]


def test_the_figures_of_the_demo_are_those_it_gives():
    """After `bash train.sh --demo`, which `.ci/run` runs first."""
    path = ROOT / "runs/demo/scores.json"
    if not path.exists():
        pytest.skip("the demo was not run in this tree")
    printed = as_text(json.loads(path.read_text(encoding="utf-8")))
    shown = README[README.index("accuracy in percent on") : README.index("\n```\n\nFrom a fresh")]
    assert rows(shown) == rows(printed.strip())
