"""The audit of a small real run names each kind of damage, and nothing else."""

import json
import shutil
import subprocess
import sys

import pytest

from fewshot.features.encoder import code_version
from fewshot.provenance.audit import JobAudit
from fewshot.provenance.audit_images import users_by_hash
from fewshot.provenance.files import IMAGES, source_of_scores
from fewshot.provenance.links import CHANGED, MISSING, NOT_RECORDED, OK
from fewshot.stages.record import TRAINING
from runtime.paths import ROOT
from tests.helpers.finished_job import (
    COUNT,
    DAMAGES,
    edited,
    flip,
    links,
    make_finished,
    places,
    shot,
    wrong,
)
from weight_files.hashing import sha256_of


@pytest.fixture(scope="module")
def finished(job, tmp_path_factory):
    """A folder with a result and everything that it was made from."""
    folder = tmp_path_factory.mktemp("finished")
    make_finished(job, folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(finished, tmp_path / "copy")


def test_all_is_well(finished):
    assert wrong(finished) == {}
    by_name = links(finished)
    names = {"result.txt", "result.zip", "test images", "weights", "head.pkl", "split"}
    assert names < set(by_name)
    assert by_name["weights"].used_by[:2] == ("result", "auxiliary.pkl")
    assert "unknown file" in by_name["weights"].note
    assert by_name["templates.json"].used_by == ("ood.pkl", "text.pkl")
    listed = (finished / "out" / IMAGES).read_text().splitlines()
    hashes = [line.split("  ") for line in listed]
    assert len(listed) == COUNT
    assert all(sha256_of(finished / "images" / name) == sha256 for sha256, name in hashes)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_it_alone(copy, damage):
    change, expected = DAMAGES[damage]
    change(copy)
    assert wrong(copy) == expected


def test_a_manifest_that_disagrees_with_its_parts_gets_a_link_for_each_hash(copy):
    edited(copy / "out/manifest.json", lambda m: m["inputs"].update(weights="0" * 64))
    all_links = JobAudit(copy / "out/manifest.json", places(copy), copy / "kit").links()
    weights = [link for link in all_links if link.name == "weights"]
    assert [link.state for link in weights] == [OK, CHANGED]
    assert weights[1].used_by == ("result",) and "head.pkl" in weights[0].used_by


def test_images_that_changed_are_named(copy):
    first, second = sorted((copy / "images").iterdir())[:2]
    flip(first)
    second.unlink()
    link = links(copy)["test images"]
    assert link.state == CHANGED and link.note == f"{first.name}, {second.name} of {COUNT} images"
    (copy / "out" / IMAGES).unlink()
    link = links(copy)["test images"]
    assert link.state == MISSING and f"without {IMAGES} none can be named" in link.note
    flip(shot(copy))
    assert shot(copy).name in links(copy)["images of the shots"].note


def test_a_file_called_like_a_public_one_is_changed(copy):
    (copy / "clip.pkl").rename(copy / "ViT-B-32.pt")
    link = links(copy, weights=str(copy / "ViT-B-32.pt"))["weights"]
    assert link.state == CHANGED and link.recorded_hash == link.current_hash
    assert link.note == "unknown file, but named like OpenAI CLIP (ViT-B/32)"


def test_a_model_named_officially_is_looked_for_where_downloads_go(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy))
    link = links(copy, weights="ViT-L/14")["weights"]
    assert link.state == MISSING and link.path == (ROOT / "ViT-L-14.pt").as_posix()
    (copy / ".cache/clip").mkdir(parents=True)
    (copy / "clip.pkl").rename(copy / ".cache/clip/ViT-L-14.pt")
    link = links(copy, weights="ViT-L/14")["weights"]
    assert link.path == (copy / ".cache/clip/ViT-L-14.pt").as_posix() and "named like" in link.note


def test_scores_say_what_they_are_of(copy):
    out, labels = copy / "out", copy / "labels.txt"
    labels.write_text("image_1.png 3\n")
    edited(out / "manifest.json", lambda m: m["config"].update(labels=str(labels)))
    (out / "scores.json").write_text(json.dumps({"images": 1}))
    assert wrong(copy) == {"scores.json": NOT_RECORDED}
    source = source_of_scores(out / "result.txt", labels)
    (out / "scores.json").write_text(json.dumps({"images": 1, "made_from": source}))
    assert wrong(copy) == {} and links(copy)["labels"].used_by == ("scores.json",)
    labels.write_text("image_1.png 4\n")
    assert wrong(copy) == {"labels": CHANGED}
    labels.unlink()
    assert wrong(copy) == {"labels": MISSING}
    source |= {"labels": None, "result.txt": "0" * 64}
    (out / "scores.json").write_text(json.dumps({"images": 1, "made_from": source}))
    assert wrong(copy) == {"result of scores.json": CHANGED}


def test_scores_that_cannot_be_read_are_changed(copy):
    for text in ("{", "[]"):
        (copy / "out/scores.json").write_text(text)
        assert wrong(copy) == {"scores.json": CHANGED}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("made_from"), "made_from"),
        (lambda m: m["made_from"].update({"gda.pkl": []}), "made_from"),
        (lambda m: m["inputs"].update(parts=[]), "inputs: parts"),
        (lambda m: m["inputs"].pop("weights"), "inputs: weights"),
        (lambda m: m["shots"].append(3), "shots"),
        (lambda m: m["config"].update(data=None), "config"),
    ],
)
def test_another_manifest_is_one_line(finished, tmp_path, change, words):
    shutil.copy(finished / "out/manifest.json", tmp_path)
    edited(tmp_path / "manifest.json", change)
    with pytest.raises(ValueError, match=f"manifest.json: {words} not as test.py writes it"):
        JobAudit(tmp_path / "manifest.json", {}).links()


def test_class_texts_are_looked_for_in_their_folder_or_where_they_were_named(copy, tmp_path):
    prompt_file = tmp_path / "own.json"
    prompt_file.write_text("{}")
    dog = sha256_of(copy / "kit/prompts/classes/dog.json")

    def change(manifest):
        text = manifest["made_from"]["text.pkl"]
        text["prompts"] |= {"own.json": sha256_of(prompt_file), "dog.json": dog}
        text["text"]["classes"] = str(prompt_file)

    edited(copy / "out/manifest.json", change)
    assert wrong(copy) == {"records in the parts": CHANGED}  # for it was edited
    by_name = links(copy)
    assert by_name["own.json"].path == prompt_file.as_posix()
    assert by_name["dog.json"].path == (copy / "kit/prompts/classes/dog.json").as_posix()
    flip(copy / "kit/prompts/classes/dog.json")
    assert links(copy)["dog.json"].state == CHANGED


def test_the_code_is_what_the_keys_of_the_stages_hash(finished):
    record = json.loads((finished / "out/manifest.json").read_text())
    assert list(users_by_hash(record, "code")) == [code_version(TRAINING)]
    assert "test.py" in record["code"]


def test_other_words_in_code_are_no_other_code(copy):
    for file in ("models/heads/gda.py", "fewshot/inference/mta.py"):
        code = copy / "kit" / file
        code.write_text(f'"""Other words."""\n# a comment\n{code.read_text()}')
    assert wrong(copy) == {}


def command(folder, *arguments, kit=ROOT):
    """Runs the audit in an environment in which Jittor cannot be imported."""
    (folder / "blocked").mkdir(exist_ok=True)
    (folder / "blocked/jittor.py").write_text("raise ImportError('the audit imports Jittor')")
    line = [sys.executable, "-m", "scripts.audit", *map(str, arguments)]
    environment = {"PYTHONPATH": str(folder / "blocked"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        line, cwd=kit, capture_output=True, text=True, env=environment, check=False
    )


def test_the_tool_says_all_and_ends_with_the_status(copy):
    options = [word for name, value in places(copy).items() for word in (f"--{name}", value)]
    options += ["--json", copy / "audit.json"]
    ended = command(copy, copy / "out", *options, kit=copy / "kit")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "links are ok" in ended.stdout and f"--verify {copy}/out/manifest.json" in ended.stdout
    flip(copy / "clip.pkl")
    ended = command(copy, copy / "out", *options, kit=copy / "kit")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stdout.endswith("1 of 23 links are not ok: weights\n"), ended.stdout
    listed = json.loads((copy / "audit.json").read_text())
    changed = [each for each in listed if each["state"] == CHANGED]
    assert [each["name"] for each in changed] == ["weights"]
    assert changed[0]["current_hash"] == sha256_of(copy / "clip.pkl") != changed[0]["recorded_hash"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("", "", "holds neither manifest.json nor <phase>/result.json of a run"),
        ("manifest.json", "{", "manifest.json: no manifest of a test run"),
        ("phase/result.json", "[]", "result.json: no result of a baseline"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, name, content, words):
    (tmp_path / "phase").mkdir()
    if name:
        (tmp_path / name).write_text(content)
    ended = command(tmp_path, tmp_path)
    assert ended.returncode == 1 and words in ended.stderr and ended.stderr.count("\n") == 1
