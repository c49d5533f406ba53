"""The rows and the exit code of `python -m scripts.doctor`, in a process with an empty home."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import scripts.doctor
from runtime.paths import ROOT

pytestmark = pytest.mark.slow


def doctor(home: Path, *arguments: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Returns exit code and table; the process must not import Jittor, which would compile it."""
    command = [sys.executable, *options, "-m", "scripts.doctor", *arguments]
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert not list((home / ".cache/jittor").glob("jt*"))  # what an import leaves behind
    return done.returncode, done.stdout


def row(table: str, name: str) -> str:
    """Returns the line of the check `name`, with a single space between its columns."""
    lines = [" ".join(line.split()) for line in table.splitlines()]
    starts = tuple(f"{status} {name} " for status in ("ok", "missing", "wrong"))
    return next(line for line in lines if line.startswith(starts))


def count_images(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.fixture
def weights(tmp_path) -> Path:
    arrays = {"a": np.zeros((10, 20), np.float32), "b": np.zeros(7, np.float16)}
    save_file(arrays | {"count": np.zeros(3, np.int64)}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Makes the embedded demo, whose split is tracked in Dataset/splits."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    subprocess.run([sys.executable, "-m", "scripts.make_demo", folder], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def tree(demo, tmp_path) -> Path:
    """Copies the demo, so that a test may damage it."""
    return Path(shutil.copytree(demo, tmp_path / "demo"))


def test_all_is_well(tmp_path, demo, weights):
    code, table = doctor(tmp_path, "--data", str(demo), "--weights", str(weights))
    assert code == 0, table
    assert table.endswith("The main job can run.\n")
    for name in ("Python", "g++", "Python headers", "NumPy", "Jittor", "Pillow", "oneDNN", "CPU"):
        assert row(table, name).startswith("ok "), table
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    words = "ok weights w.safetensors: no public file that is known here, 207 parameters"
    assert row(table, "weights") == f"{words}, SHA-256 {digest}"
    assert row(table, "parameters") == "ok parameters 207 in these files"
    assert row(table, "data") == f"ok data {demo}: contest tree, 7 base and 3 new classes"
    train, test = count_images(demo / "TrainSet"), count_images(demo / "TestSetB")
    assert row(table, "train").startswith(f"ok train {train} images of 7 classes, ")
    assert row(table, "TestSetB") == f"ok TestSetB {test} images"
    assert row(table, "split") == "ok split demo.jsonl: 4 shots of 7 classes"
    assert row(table, "unreadable") == f"ok unreadable none of {train + test} images"


def test_cuda_and_mpi_are_never_needed(tmp_path, demo, weights):
    """Only g++ is on the PATH."""
    (tmp_path / "bin").mkdir()
    for name in ("g++", "as", "ld"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    command = [sys.executable, "-m", "scripts.doctor", "--data", demo, "--weights", weights]
    environ = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert row(done.stdout, "MPI").startswith("missing MPI no mpirun and no mpicc")
    assert "openmpi-bin" in done.stdout
    assert done.returncode == 0, done.stdout


def test_the_users_own_nvcc_is_told(tmp_path):
    command = [sys.executable, "-m", "scripts.doctor", "--data", "none", "--weights", "none"]
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "nvcc_path": "/opt/my/nvcc"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert row(done.stdout, "CUDA").startswith("ok CUDA nvcc_path='/opt/my/nvcc' is set")


def test_without_a_compiler_nothing_runs(tmp_path, demo, weights):
    command = [sys.executable, "-m", "scripts.doctor", "--data", demo, "--weights", weights]
    environ = {"HOME": str(tmp_path), "PATH": "/nowhere"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert row(done.stdout, "g++") == "missing g++ not on the PATH"
    assert "apt-get install g++" in done.stdout
    assert done.stdout.endswith("The main job cannot run: g++.\n")


def test_broken_images_are_named(tmp_path, tree, weights):
    broken = sorted((tree / "TestSetB").iterdir())[0]
    broken.write_bytes(b"no image")
    code, table = doctor(tmp_path, "--data", str(tree), "--weights", str(weights))
    assert code == 0  # a run skips and counts them
    assert row(table, "unreadable").startswith("wrong unreadable 1 of ")
    assert str(broken) in row(table, "unreadable")


def test_a_split_of_other_images_is_wrong(tmp_path, tree, weights):
    shot = json.loads((ROOT / "Dataset/splits/demo.jsonl").read_text().splitlines()[0])["image"]
    lines = (tree / "train.txt").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(shot)]
    (tree / "train.txt").write_text("\n".join(kept) + "\n")
    code, table = doctor(tmp_path, "--data", str(tree), "--weights", str(weights))
    assert code == 1
    assert row(table, "split").startswith("wrong split ")
    assert shot in row(table, "split")


def test_the_nested_contest_tree_is_told(tmp_path, weights):
    folder = tmp_path / "Dataset"
    image = folder / "TrainSet/TrainSet/Animal/Bear/1.png"
    image.parent.mkdir(parents=True)
    Image.new("L", (4, 4)).save(image)
    (folder / "classes.txt").write_text("Animal_Bear 0")
    (folder / "train.txt").write_text("Dataset/TrainSet/TrainSet/Animal/Bear/1.png 0\n")
    code, table = doctor(tmp_path, "--data", str(folder), "--weights", str(weights))
    assert "contest tree, with TrainSet/TrainSet/, 1 base and 0 new classes" in row(table, "data")
    assert row(table, "test images").startswith("missing test images none of TestSetA")


@pytest.mark.parametrize("content", [b"", b"<html>", b"cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_no_weights_is_wrong(tmp_path, content):
    path = tmp_path / "ViT-B-32.pkl"
    path.write_bytes(content)
    code, table = doctor(tmp_path, "--data", str(tmp_path / "none"), "--weights", str(path))
    assert code == 1
    assert row(table, "weights").startswith("wrong weights ")
    assert str(path) in row(table, "weights")


def test_absent_weights_and_data_say_what_to_put_where(tmp_path):
    nothing = str(tmp_path / "nothing")
    code, table = doctor(tmp_path, "--data", nothing, "--weights", nothing)
    assert code == 1
    assert row(table, "weights") == f"missing weights no {nothing}"
    assert "put JCLIP's ViT-B-32.pkl" in table
    assert row(table, "data").startswith(f"missing data {nothing}: ")
    assert "Dataset/README.md" in table


def test_the_table_prints_before_anything_is_installed(tmp_path, demo, weights):
    """`-S` hides every installed package."""
    code, table = doctor(
        tmp_path, "--data", str(demo), "--weights", str(weights), options=("-S", "-E")
    )
    assert code == 1
    for name in ("NumPy", "Jittor", "Pillow"):
        assert row(table, name) == f"missing {name} not installed"
    assert row(table, "weights").startswith("missing weights w.safetensors")
    assert row(table, "data").startswith("ok data ")
    assert row(table, "unreadable").startswith("missing unreadable not checked")
    assert "pip install -r requirements.txt" in table


def test_public_files_are_known():
    sha256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    assert scripts.doctor.public_name(sha256) == "ViT-B/32, OpenAI CLIP"


def test_an_auxiliary_file_alone_is_no_clip(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(scripts.doctor, "ROOT", tmp_path)
    shutil.copy(weights, tmp_path / "res1000epoch.pkl")
    subject = scripts.doctor.Subject(tmp_path, None)
    (clip,) = scripts.doctor.check_weights(subject)
    (auxiliary,) = scripts.doctor.check_parts(subject)
    assert clip.status == auxiliary.status == "ok" and "w.saf" in clip.value
    weights.unlink()
    (alone,) = scripts.doctor.check_weights(scripts.doctor.Subject(tmp_path, None))
    assert alone.status == "missing"
