"""The audit of a baseline's folder finds its chain again and names each kind of damage."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from baselines.audit import Phase, find_phases
from baselines.datasets.image_sets import image_set_digest
from baselines.datasets.registry import load_dataset
from baselines.datasets.splits import read_or_draw_split
from baselines.results import write_result
from engine.run_log import Run
from fewshot.provenance.links import CHANGED, MISSING, NOT_RECORDED, OK
from fewshot.text.prompt_files import TEMPLATES
from runtime.paths import ROOT
from tests.helpers.machine import PACKAGES
from weight_files.hashing import sha256_of


def make_photos(root):
    """Writes 3 classes x (6 training, 4 test) images."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for name in ("red", "green", "blue"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


def make_phase(folder, images):
    """Writes what a baseline leaves: a split, metrics, best weights and a result."""
    weights, out = folder / "encoder.pkl", folder / "out"
    weights.write_bytes(b"weights")
    read_or_draw_split(out / "split.jsonl", load_dataset("folder", folder / "photos", "train"))
    config = {"encoder": str(weights), "files_sha256": {"encoder": sha256_of(weights)}}
    run = Run(out / "phase", config)
    run.log(0, {"loss": 1.0, "val accuracy": 0.5})
    run.close()
    (run.folder / "best.pkl").write_bytes(b"best")
    test = load_dataset("folder", folder / "photos", "test")
    logits = np.eye(3)[np.roll(test.labels, 2)]
    extra = {"prompts": {"templates.json": sha256_of(TEMPLATES)}}
    write_result(run, logits, test.labels, test.class_names, extra, images)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A copy of code and prompts. A test that damages it must restore it."""
    folder, skip = tmp_path_factory.mktemp("kit"), shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "prompts"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    return folder


@pytest.fixture
def finished(tmp_path, kit):
    make_photos(tmp_path / "photos")
    parts = {p: load_dataset("folder", tmp_path / "photos", p) for p in ("train", "test")}
    root = (tmp_path / "photos").as_posix()
    images = {"dataset": "folder", "root": root, "options": {}}
    images["parts"] = {part: image_set_digest(found) for part, found in parts.items()}
    make_phase(tmp_path, images)
    (tmp_path / "kit").symlink_to(kit)
    return tmp_path


def links(folder, root=None):
    phases = [Phase(phase, root, folder / "kit") for phase in find_phases(folder / "out")]
    return {link.name: link for phase in phases for link in phase.links()}


def wrong(folder, root=None):
    return {name: link.state for name, link in links(folder, root).items() if link.state != OK}


def edited(folder, change):
    path = folder / "out/phase/result.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_all_is_well(finished):
    assert wrong(finished) == {}
    assert set(links(finished)) == {
        "phase/result.json",
        "phase/best.pkl",
        "phase/metrics.jsonl",
        "phase/confusion.csv",
        "phase/summary.csv",
        "phase/../split.jsonl",
        "phase: code",
        "phase: encoder",
        "phase: templates.json",
        "phase: train images",
        "phase: test images",
    }
    assert links(finished)["phase: encoder"].note == "unknown file"


DAMAGES = {
    "best weights": ("out/phase/best.pkl", "phase/best.pkl"),
    "metrics": ("out/phase/metrics.jsonl", "phase/metrics.jsonl"),
    "summary": ("out/phase/summary.csv", "phase/summary.csv"),
    "split": ("out/split.jsonl", "phase/../split.jsonl"),
    "weights": ("encoder.pkl", "phase: encoder"),
    "templates": ("kit/prompts/templates.json", "phase: templates.json"),
    "a training image": ("photos/train/red/3.png", "phase: train images"),
    "a test image": ("photos/test/red/3.png", "phase: test images"),
    "code": ("kit/recipes/linear_eval.py", "phase: code"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_it_alone(finished, damage):
    file, link = DAMAGES[damage]
    path = finished / file
    content = path.read_bytes()
    path.write_bytes(content + b"\nchanged = 1\n")
    assert wrong(finished) == {link: CHANGED}
    path.unlink()
    assert wrong(finished) == {link: MISSING}
    path.write_bytes(content)
    assert wrong(finished) == {}


def test_other_words_in_code_are_no_other_code(finished):
    code = finished / "kit/recipes/linear_eval.py"
    content = code.read_text()
    code.write_text(f"# a comment\n{content}")
    assert wrong(finished) == {}
    code.write_text(content)


def test_a_result_that_its_table_does_not_give_is_changed(finished):
    edited(finished, lambda record: record["result"].update(accuracy=0.99))
    assert wrong(finished) == {"phase/result.json": CHANGED}
    table = finished / "out/phase/confusion.csv"
    table.unlink()
    assert wrong(finished) == {"phase/result.json": MISSING, "phase/confusion.csv": MISSING}


def test_data_that_moved_are_found_where_they_are_named(finished):
    (finished / "photos").rename(finished / "elsewhere")
    assert wrong(finished) == {"phase: train images": MISSING, "phase: test images": MISSING}
    assert wrong(finished, finished / "elsewhere") == {}


def test_what_older_results_lack_is_not_recorded(finished):
    edited(finished, lambda record: record["made_from"].update(images=None))
    assert wrong(finished) == {"phase: images": NOT_RECORDED}
    edited(finished, lambda record: record.pop("made_from"))
    names = ("phase: files of the run", "phase: code", "phase: images")
    assert wrong(finished) == dict.fromkeys(names, NOT_RECORDED)


def test_an_official_model_has_the_hash_that_it_was_checked_by(finished, monkeypatch):
    def change(record):
        record["config"] |= {"weights": "ViT-L/14", "files_sha256": {}}

    monkeypatch.setenv("HOME", str(finished))
    edited(finished, change)
    link = links(finished)["phase: weights"]
    assert link.state == MISSING and link.note.endswith("known: OpenAI CLIP (ViT-L/14)")


def test_images_in_memory_and_in_files_are_told_apart_by_content_and_label(finished):
    images = load_dataset("folder", finished / "photos", "test")
    array = images.in_memory()
    assert image_set_digest(images) == image_set_digest(images.take(slice(None)))
    assert image_set_digest(array)["images"] == 12
    other = array.take(slice(None))
    other.images[5, 0, 0, 0] ^= 1
    labels = array.take(slice(None))
    labels.labels[0] = 2
    digests = {image_set_digest(each)["sha256"] for each in (images, array, other, labels)}
    assert len(digests) == 4
