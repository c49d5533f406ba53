"""Every baseline recipe from its command to its result, on small generated images."""

import json
import subprocess
import sys

import pytest

from runtime.paths import ROOT
from tests.helpers.photos import write_photos
from tests.helpers.tiny_clip import write_tiny_clip

COMMON = ["--dataset", "folder", "--workers", "0", "--device", "cpu", "--val_share", "0.25"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """3 classes x (8 training, 4 test) images of 32 x 32 pixels that differ in colour."""
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def train(photos, tmp_path):
    """run(recipe, *fields) runs `train.py` and returns its output; files go below tmp_path."""

    def run(recipe, *fields, out="run"):
        command = [sys.executable, str(ROOT / "train.py"), recipe, *COMMON, "--root", str(photos)]
        command += ["--out", str(tmp_path / out), *map(str, fields)]
        completed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout

    return run


def result(folder):
    return json.loads((folder / "result.json").read_text())["result"]


def test_simclr_then_linear_evaluation(train, tmp_path):
    small = ("--image_size", 8, "--batch_size", 4)
    train("simclr", *small, "--epochs", 2, "--lr", 0.01, "--knn_every", 1)
    lines = [
        json.loads(line)
        for line in (tmp_path / "run/simclr/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [0, 1] and "val knn accuracy" in lines[0]
    encoder = ("--encoder", tmp_path / "run/encoder.pkl")
    train("linear_eval", *small, *encoder, "--epochs", 20, out="eval")
    assert result(tmp_path / "eval/self_supervised")["accuracy"] > 0.5  # a third is chance
    train("linear_eval", *small, "--source", "scratch", "--layers", 2, "--epochs", 5, out="eval")
    one, two = (result(tmp_path / "eval" / name) for name in ("self_supervised", "scratch"))
    assert one["encoder_sha256"] != two["encoder_sha256"]
    assert "scratch, 12 test images" in train(
        "linear_eval", *small, "--source", "scratch", "--layers", 2, "--epochs", 5, out="eval"
    )  # as stored, nothing is trained
    # other weights under the same name
    train("simclr", *small, "--epochs", 1, "--lr", 0.02, "--optimizer", "lars")
    again = train("linear_eval", *small, *encoder, "--epochs", 20, out="eval")
    assert "self_supervised epoch 20/20" in again


def test_fine_tuning_unfreezes_what_it_is_told(train, tmp_path):
    fields = ("--network", "vit_tiny", "--image_size", 32, "--unfreeze", "last 1 blocks")
    harder = ("--mix", 0.5, "--randaugment", 9, "--erase", 0.5, "--ema", 0.9)
    train("caltech_finetune", *fields, "--batch_size", 6, "--epochs", 2, *harder)
    completed = result(tmp_path / "run/vit_tiny")
    assert (
        completed["trained"] == 444_864 + 2 * 192 + 3 * 193
    )  # a block, the last norm, the classifier
    assert completed["images"] == 12
    for name in ("confusion.csv", "confusion.png", "curves.png", "summary.csv", "best.pkl"):
        assert (tmp_path / "run/vit_tiny" / name).stat().st_size > 0


def test_clip_four_ways(train, tmp_path):
    write_tiny_clip(tmp_path / "clip.pkl")
    common = ("--weights", tmp_path / "clip.pkl", "--batch_size", 6, "--epochs", 2)
    for mode in ("zero_shot", "linear_probe", "fine_tune", "scratch"):
        train("clip_cifar", "--mode", mode, *common)
        assert result(tmp_path / "run" / mode)["images"] == 12
    assert result(tmp_path / "run/zero_shot")["prompts"].keys() == {"templates.json"}
    assert "logistic regression" in result(tmp_path / "run/linear_probe")


def test_student_and_teacher(train, tmp_path):
    small = ("--patch_size", 16, "--depth", 1, "--batch_size", 6, "--epochs", 2)
    small += ("--teacher_network", "vit_tiny", "--labelled", 3)
    train("student_teacher", *small, "--phases", "teacher", "student", "st_class")
    phases = {path.parent.name for path in (tmp_path / "run").glob("*/result.json")}
    assert phases == {"teacher", "student", "st_class"}
    lines = (tmp_path / "run/student/metrics.jsonl").read_text().splitlines()
    assert "angle loss" in json.loads(lines[0]) and "distance loss" in json.loads(lines[0])
    for semi in ("none", "pseudo", "fixmatch"):
        fields = ("--phases", "ssl", "--semi", semi, "--threshold", 0.4, "--ratio", 1)
        output = train("student_teacher", *small, *fields, "--batch_size", 3, out="semi")
        assert result(tmp_path / f"semi/ssl_{semi}")["images"] == 12
        phases = {name for name in ("teacher", "student") if f"{name} epoch" in output}
        assert phases == ({"teacher", "student"} if semi == "none" else set())  # one for all three


def test_a_grid_goes_on_and_has_one_table(photos, tmp_path):
    command = [sys.executable, "-m", "scripts.grid", "linear_eval", "--phase", "scratch"]
    command += ["--out", str(tmp_path), "--axis", "lr", "1e-3", "1e-2", "--seeds", "1", "2", "--"]
    command += [*COMMON, "--root", str(photos), "--source", "scratch", "--image_size", "8"]
    command += ["--epochs", "2"]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    table = (tmp_path / "table.csv").read_text()
    assert table.startswith("lr,accuracy,") and table.count("±") == 2 * 6
    second = subprocess.run(command, capture_output=True, text=True)
    assert "epoch" in first.stdout and "epoch" not in second.stdout
    assert (tmp_path / "table.csv").read_text() == table


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("student_teacher", "--phases", "pupil"), "no phase 'pupil'; there are teacher, student"),
        (("student_teacher", "--semi", "pseudo"), "--semi pseudo needs --labelled N"),
        (("simclr", "--data_scale", "0"), "data_scale is 0.0"),
        (("simclrs",), "no recipe is called 'simclrs'"),
        (("linear_eval", "--root", "nowhere"), "nowhere: no such folder or archive"),
        (("linear_eval", "--encoder", "no.pkl"), "no.pkl"),
        (
            ("caltech_finetune", "--network", "vit_tiny", "--unfreeze", "layer4"),
            "cannot be unfrozen",
        ),
    ],
)
def test_a_mistake_gets_one_line(photos, tmp_path, fields, words):
    command = [sys.executable, str(ROOT / "train.py"), fields[0], *COMMON, "--root", str(photos)]
    command += ["--out", str(tmp_path), *fields[1:]]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode in (1, 2) and words in completed.stderr
    assert "Traceback" not in completed.stderr
