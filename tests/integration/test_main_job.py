"""The main job on the embedded data with an untrained tiny CLIP: every file, every promise."""

import json
import random
import shutil
import subprocess
import sys
import zipfile

import pytest

from data.inputs import AUXILIARY
from fewshot.inference import submission
from fewshot.inference.classifiers import CLASSIFIERS, ENSEMBLE
from fewshot.stages.heads import HeadConfig
from fewshot.stages.parts import PART_TYPES, read_parts
from fewshot.stages.record import read_record
from recipes import clip_fewshot
from runtime.paths import ROOT
from tests.helpers.main_job import score, train_config
from tests.helpers.tiny_clip import write_tiny_clip
from weight_files import safe_load
from weight_files.hashing import sha256_of

STAGES = tuple(PART_TYPES)


@pytest.fixture(scope="module")
def result(job):
    return score(job, job / "out", labels=job / "demo/TestSetB_labels.txt")


def test_the_result_is_a_valid_submission(job, result):
    names = list(result)
    assert len(names) == 817
    assert names[:3] == sorted(names, key=lambda name: int(name.split("_")[1].split(".")[0]))[:3]
    submission.validate(job / "out/result.txt", names, 10)
    with zipfile.ZipFile(job / "out/result.zip") as archive:
        assert archive.namelist() == ["result.txt"]
        assert archive.read("result.txt") == (job / "out/result.txt").read_bytes()
    assert all(len(set(line.split())) == 5 for line in result.values())


def test_the_manifest_says_what_was_used(job, result):
    manifest = json.loads((job / "out/manifest.json").read_text())
    inputs = manifest["inputs"]
    assert inputs["weights"] == sha256_of(job / "clip.pkl")
    assert inputs["auxiliary"] == sha256_of(job / "auxiliary.pkl") and inputs["images"] == 817
    parameters = manifest["parameters"]
    assert parameters["weights"] > 3_000_000 and parameters["text.pkl"] == 10 * 32
    assert parameters["lora.pkl"] == 2 * 2 * 3 * (64 + 64)  # towers, rank, q k v, one block each
    assert parameters["auxiliary weights"] == parameters["weights"]  # of the same tiny size
    assert set(inputs["parts"]) == {f"{stage}.pkl" for stage in STAGES}
    assert parameters.pop("sum") == sum(parameters.values())
    assert inputs["parts"]["head.pkl"] == sha256_of(job / "parts/head.pkl")
    assert manifest["result"]["result.txt"] == sha256_of(job / "out/result.txt")
    assert manifest["versions"]["jittor"] == "1.3.11.0"
    chosen = manifest["constants_chosen_on_public_test_labels"]
    assert {row["is_default"] for row in chosen["constants"].values()} == {True}
    broken = [rule for rule, is_broken in manifest["rules"].items() if is_broken]
    assert broken == ["constants_chosen_on_public_test_labels"]
    # with 4 shots a class nothing else is chosen by data
    assert set(manifest["selection"]) == {"rule", "gda", "ood", "auxiliary"}
    assert manifest["skipped_images"] == [] and len(manifest["shots"]) == 28
    shots = {sha256_of(path) for path in (job / "demo/TrainSet").glob("*/*/*.png")}
    assert {key for _, key in manifest["shots"]} < shots


def test_a_second_run_gives_the_same_bytes(job, result):
    names = ("result.txt", "result.zip", "manifest.json")
    before = [(job / "out" / name).read_bytes() for name in names]
    score(job, job / "out", labels=job / "demo/TestSetB_labels.txt")
    assert [(job / "out" / name).read_bytes() for name in names] == before


def test_trained_parts_are_the_same_bytes_again(job):
    second = {
        "parts": job / "parts2",
        "cache": job / "cache2",
        "runs": job / "runs2",
    }
    lines = (job / "demo/train.txt").read_text().splitlines(keepends=True)
    (job / "demo/train.txt").write_text("".join(reversed(lines)))  # nor does their order count
    clip_fewshot.run(train_config(job, workers=2, prefetch=5, **second))
    for stage in STAGES:
        paths = [job / folder / f"{stage}.pkl" for folder in ("parts", "parts2")]
        assert sha256_of(paths[0]) == sha256_of(paths[1]), stage


def test_finished_stages_are_kept(job, capsys):
    clip_fewshot.run(train_config(job))
    output = capsys.readouterr().out
    assert output.count("unchanged") == len(STAGES)
    third = {"parts": job / "parts3", "runs": job / "runs3"}
    clip_fewshot.run(train_config(job, head=HeadConfig(n_iter=5), **third))
    clip_fewshot.run(train_config(job, head=HeadConfig(n_iter=6), **third))
    output = capsys.readouterr().out
    for stage in STAGES:
        assert (f"{stage}: unchanged" in output) == (stage not in ("head", "channel"))
    clip_fewshot.run(train_config(job, only="lora", fresh=True, **third))
    output = capsys.readouterr().out
    assert "lora epoch 1/2" in output and output.count("wrote") == 1


def test_parts_hold_arrays_and_plain_data_and_say_what_they_are(job):
    for stage in STAGES:
        part = safe_load(job / "parts" / f"{stage}.pkl")  # refuses everything else
        assert part["meta"]["stage"] == stage and part["meta"]["inputs"]["weights"]
    record = read_record(job / "parts")
    assert tuple(record) == STAGES
    for entry in record.values():
        assert sha256_of(job / "parts" / entry.output) == entry.sha256


def test_the_table_has_a_row_for_each_part(result, job):
    scores = json.loads((job / "out/scores.json").read_text())
    rows = scores["rows"]
    assert list(rows) == [id for id, classifier in CLASSIFIERS.items() if not classifier.routing]
    assert {id: scores["labels"][id] for id in rows} == {id: CLASSIFIERS[id].label for id in rows}
    assert rows["lora"]["trained"] == 2 * 2 * 3 * (64 + 64)
    parts = read_parts(job / "parts").by_stage.values()
    assert rows[ENSEMBLE]["trained"] == sum(part.trained_count for part in parts)
    assert all({"base", "new", "all"} <= set(row) for row in rows.values())
    assert all(("seconds" in row) != bool(CLASSIFIERS[id].without) for id, row in rows.items())


def test_without_an_auxiliary_the_rest_stands(job, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # a folder without res1000epoch.pkl
    clip_fewshot.run(
        train_config(job, parts=tmp_path / "parts", auxiliary=AUXILIARY, runs=tmp_path / "runs")
    )
    assert not (tmp_path / "parts/auxiliary.pkl").exists()
    lines = score(job, tmp_path / "out", parts=tmp_path / "parts", auxiliary=AUXILIARY)
    assert len(lines) == 817
    with pytest.raises(ValueError, match="no such file; leave --auxiliary out"):
        clip_fewshot.run(train_config(job, auxiliary=tmp_path / "none.pkl"))


def test_parts_that_need_an_auxiliary_say_so(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="need the auxiliary weights res1000epoch.pkl: put it"):
        score(job, tmp_path / "out", auxiliary=AUXILIARY)
    with pytest.raises(ValueError, match="clip.pkl: not the auxiliary weights of these parts"):
        score(job, tmp_path / "out", auxiliary=job / "clip.pkl")


def test_renaming_and_shuffling_change_no_prediction(job, result, tmp_path):
    images = sorted((job / "demo/TestSetB").iterdir())
    numbers = list(range(len(images)))
    random.Random(5).shuffle(numbers)
    (tmp_path / "shuffled").mkdir()
    old_name = {}
    for number, image in zip(numbers, images, strict=True):
        name = f"other-{number}{image.suffix}"
        shutil.copy(image, tmp_path / "shuffled" / name)
        old_name[name] = image.name
    lines = score(job, tmp_path / "out", images=str(tmp_path / "shuffled"), workers=2, prefetch=7)
    assert {old_name[name]: line for name, line in lines.items()} == result


def test_a_broken_test_image_still_gets_its_line(job, result, tmp_path, capsys):
    shutil.copytree(job / "demo/TestSetB", tmp_path / "images")
    broken = sorted((tmp_path / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:60])
    lines = score(job, tmp_path / "out", images=str(tmp_path / "images"))
    assert len(lines) == 817 and len(set(lines[broken.name].split())) == 5
    del lines[broken.name]
    assert lines == {name: line for name, line in result.items() if name != broken.name}
    output = capsys.readouterr().out
    assert f"1 image could not be read and was skipped: {broken.name}" in output
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [name for name, _ in manifest["skipped_images"]] == [broken.name]


def test_images_that_were_trained_on_are_counted(job, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    shots = sorted((job / "demo/TrainSet").rglob("*.png"))
    for number, path in enumerate(shots[:30] + sorted((job / "demo/TestSetB").iterdir())[:2]):
        shutil.copy(path, images / f"{number}.png")
    score(job, tmp_path / "out", images=str(images))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    known = {key for _, key in manifest["shots"]}
    count = sum(sha256_of(path) in known for path in images.iterdir())
    assert 0 < count < 30 and manifest["inputs"]["images_trained_on"] == count
    assert f"\n{count} of these images are among the shots" in capsys.readouterr().out


def test_parts_of_other_weights_are_refused(job, tmp_path):
    write_tiny_clip(tmp_path / "clip.pkl", seed=1)
    with pytest.raises(ValueError, match="trained with another weight file"):
        score(job, tmp_path / "out", weights=str(tmp_path / "clip.pkl"))
    assert not (tmp_path / "out/result.txt").exists()


def test_labels_that_lack_an_image_are_refused(job, tmp_path):
    (tmp_path / "labels.txt").write_text("image_1.png 3\n")
    with pytest.raises(ValueError, match="labels.txt: no label for"):
        score(job, tmp_path / "out", labels=tmp_path / "labels.txt")


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
