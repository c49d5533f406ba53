"""The main job on the embedded data with an untrained tiny CLIP: every file, every promise."""

import json
import random
import shutil
import subprocess
import sys
import zipfile

import pytest

from fewshot import submission
from recipes import clip_fewshot
from runtime.hashing import sha256_of
from tests.kit import ROOT, script, write_tiny_clip

test_script = script("test.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, weights and trained parts."""
    folder = tmp_path_factory.mktemp("job")
    script("tools/make_demo.py").make(folder / "demo", 0)
    write_tiny_clip(folder / "clip.pkl")
    clip_fewshot.run(train_config(folder))
    return folder


def train_config(folder, **changes):
    settings = {"data": folder / "demo", "weights": str(folder / "clip.pkl")}
    settings |= {"parts": folder / "parts", "cache": folder / "cache", "device": "cpu"} | changes
    return clip_fewshot.Config(**settings)


def score(place, out, **changes):
    """Runs test.py's main; returns {image name: the rest of its line}."""
    settings = {"data": place / "demo", "weights": str(place / "clip.pkl"), "out": out}
    settings |= {"parts": place / "parts", "cache": out / "cache", "device": "cpu"} | changes
    out.mkdir(exist_ok=True)
    test_script.main(test_script.Config(**settings))
    lines = (out / "result.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


@pytest.fixture(scope="module")
def result(place):
    return score(place, place / "out", labels=place / "demo/TestSetB_labels.txt")


def test_the_result_is_a_valid_submission(place, result):
    names = list(result)
    assert len(names) == 817
    assert names[:3] == sorted(names, key=lambda name: int(name.split("_")[1].split(".")[0]))[:3]
    submission.validate(place / "out/result.txt", names, 10)
    with zipfile.ZipFile(place / "out/result.zip") as archive:
        assert archive.namelist() == ["result.txt"]
        assert archive.read("result.txt") == (place / "out/result.txt").read_bytes()
    assert all(len(set(line.split())) == 5 for line in result.values())


def test_the_manifest_says_what_was_used(place, result):
    manifest = json.loads((place / "out/manifest.json").read_text())
    assert manifest["weights_sha256"] == sha256_of(place / "clip.pkl")
    parameters = manifest["parameters"]
    assert parameters["weights"] > 3_000_000 and parameters["text.pkl"] == 10 * 32
    assert parameters["head.pkl"] > 7 * 32
    assert parameters.pop("sum") == sum(parameters.values())
    assert manifest["parts"]["head.pkl"]["sha256"] == sha256_of(place / "parts/head.pkl")
    assert manifest["result"]["result.txt"] == sha256_of(place / "out/result.txt")
    assert manifest["versions"]["jittor"] == "1.3.11.0"
    assert not any(manifest["rules"].values())
    assert manifest["skipped_images"] == []


def test_a_second_run_gives_the_same_bytes(place, result):
    names = ("result.txt", "result.zip", "manifest.json")
    before = [(place / "out" / name).read_bytes() for name in names]
    score(place, place / "out", labels=place / "demo/TestSetB_labels.txt")
    assert [(place / "out" / name).read_bytes() for name in names] == before


def test_trained_parts_are_the_same_bytes_again(place):
    clip_fewshot.run(train_config(place, parts=place / "parts2", cache=place / "cache2", workers=2))
    for name in ("text.pkl", "head.pkl"):
        assert sha256_of(place / "parts" / name) == sha256_of(place / "parts2" / name)


def test_finished_stages_are_kept(place, capsys):
    clip_fewshot.run(train_config(place))
    said = capsys.readouterr().out
    assert said.count("unchanged") == 2
    clip_fewshot.run(train_config(place, parts=place / "parts3", n_iter=5))
    clip_fewshot.run(train_config(place, parts=place / "parts3", n_iter=6))
    said = capsys.readouterr().out
    assert said.count("text: unchanged") == 1 and said.count("head: wrote") == 2


def test_renaming_and_shuffling_change_no_prediction(place, result, tmp_path):
    images = sorted((place / "demo/TestSetB").iterdir())
    numbers = list(range(len(images)))
    random.Random(5).shuffle(numbers)
    (tmp_path / "shuffled").mkdir()
    old_name = {}
    for number, image in zip(numbers, images, strict=True):
        name = f"other-{number}{image.suffix}"
        shutil.copy(image, tmp_path / "shuffled" / name)
        old_name[name] = image.name
    found = score(
        place, tmp_path / "out", split=str(tmp_path / "shuffled"), workers=2, batch_size=7
    )
    assert {old_name[name]: line for name, line in found.items()} == result


def test_a_broken_test_image_still_gets_its_line(place, result, tmp_path, capsys):
    shutil.copytree(place / "demo/TestSetB", tmp_path / "images")
    broken = sorted((tmp_path / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:60])
    found = score(place, tmp_path / "out", split=str(tmp_path / "images"))
    assert len(found) == 817 and len(set(found[broken.name].split())) == 5
    del found[broken.name]
    assert found == {name: line for name, line in result.items() if name != broken.name}
    said = capsys.readouterr().out
    assert f"1 image could not be read and was skipped: {broken.name}" in said
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [name for name, _ in manifest["skipped_images"]] == [broken.name]


def test_parts_of_other_weights_are_refused(place, tmp_path):
    write_tiny_clip(tmp_path / "clip.pkl", seed=1)
    with pytest.raises(ValueError, match="trained with another weight file"):
        score(place, tmp_path / "out", weights=str(tmp_path / "clip.pkl"))
    assert not (tmp_path / "out/result.txt").exists()


def test_labels_that_lack_an_image_are_refused(place, tmp_path):
    (tmp_path / "labels.txt").write_text("image_1.png 3\n")
    with pytest.raises(ValueError, match="labels.txt: no label for"):
        score(place, tmp_path / "out", labels=tmp_path / "labels.txt")


@pytest.mark.parametrize("command", [["train.py", "clip_fewshot"], ["test.py"]])
def test_missing_data_and_weights_are_one_message(command, tmp_path):
    missing = ["--data", str(tmp_path / "none"), "--weights", str(tmp_path / "no.pkl")]
    command = [sys.executable, *command, *missing]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    for text in (f"data: {tmp_path}/none:", f"weights: {tmp_path}/no.pkl:", "train.sh --demo"):
        assert ended.stderr.count(text) == 1


def test_an_unknown_recipe_lists_those_there_are():
    command = [sys.executable, "train.py", "clip_fewshots"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "clip_pretrain" in ended.stderr
