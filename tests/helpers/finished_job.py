"""A finished main job in a folder of its own, and the damages that an audit must name."""

import json
import shutil
from pathlib import Path

from data.few_shot_dataset import list_test_images
from fewshot.provenance.audit import JobAudit
from fewshot.provenance.links import CHANGED, MISSING, NOT_RECORDED, OK
from runtime.paths import ROOT
from tests.helpers.machine import PACKAGES
from tests.helpers.main_job import score

COUNT = 24  # test images


def places(folder):
    names = {"data": "data", "images": "images", "weights": "clip.pkl", "parts": "parts"}
    names |= {"auxiliary": "auxiliary.pkl", "shots": "split.jsonl"}
    return {field: str(folder / name) for field, name in names.items()}


def make_finished(job, folder):
    """Writes a result and everything that it was made from, with code and prompts."""
    shutil.copytree(job / "demo", folder / "data", ignore=shutil.ignore_patterns("*Set*"))
    shutil.copytree(job / "demo/TrainSet", folder / "data/TrainSet")
    shutil.copytree(job / "parts", folder / "parts")
    for name in ("clip.pkl", "auxiliary.pkl"):
        shutil.copy(job / name, folder)
    shutil.copy(ROOT / "Dataset/splits/demo.jsonl", folder / "split.jsonl")
    (folder / "images").mkdir()
    for item in list_test_images(job / "demo", "TestSetB")[:COUNT]:
        shutil.copy(item.path, folder / "images")
    skip = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "prompts"):
        shutil.copytree(ROOT / name, folder / "kit" / name, ignore=skip)
    shutil.copy(ROOT / "test.py", folder / "kit")
    options = {name: Path(value) for name, value in places(folder).items() if name != "shots"}
    options |= {name: str(options[name]) for name in ("images", "weights")}
    score(job, folder / "out", **options, views=2)
    for name in ("shards", "cache"):
        shutil.rmtree(folder / "out" / name)


def links(folder, **options):
    all_links = JobAudit(
        folder / "out/manifest.json", places(folder) | options, folder / "kit"
    ).links()
    names = [link.name for link in all_links]
    assert len(set(names)) == len(names)
    return {link.name: link for link in all_links}


def wrong(folder, **options):
    """Returns {link: state} of the links that are not ok."""
    return {n: link.state for n, link in links(folder, **options).items() if link.state != OK}


def flip(path):
    """Changes one byte."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edited(path, change):
    """Changes a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replaced(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rows(folder):
    return [json.loads(line) for line in (folder / "split.jsonl").read_text().splitlines()]


def shot(folder):
    """Returns the file of the fourth shot."""
    image = rows(folder)[3]["image"]
    tops = (folder / "data", folder / "data/TrainSet")
    return next(top / image for top in tops if (top / image).is_file())


def other_shot(folder):
    """Replaces a shot by another image of its class."""
    first, names = rows(folder)[0], {row["image"] for row in rows(folder)}
    shown = [line.rsplit(" ", 1) for line in (folder / "data/train.txt").read_text().splitlines()]
    free = next(n for n, label in shown if int(label) == first["label"] and n not in names)
    replaced(folder / "split.jsonl", first["image"], free)


DAMAGES = {
    "a line of the result": (
        lambda f: replaced(f / "out/result.txt", " 1", " 2"),
        {"result.txt": CHANGED},
    ),
    "no result": (lambda f: (f / "out/result.txt").unlink(), {"result.txt": MISSING}),
    "no zip": (lambda f: (f / "out/result.zip").unlink(), {"result.zip": MISSING}),
    "a byte of a test image": (
        lambda f: flip(sorted((f / "images").iterdir())[5]),
        {"test images": CHANGED},
    ),
    "no test image": (
        lambda f: sorted((f / "images").iterdir())[5].unlink(),
        {"test images": MISSING},
    ),
    "no test images": (lambda f: shutil.rmtree(f / "images"), {"test images": MISSING}),
    "a byte of the weights": (lambda f: flip(f / "clip.pkl"), {"weights": CHANGED}),
    "no weights": (lambda f: (f / "clip.pkl").unlink(), {"weights": MISSING}),
    "a byte of the second weights": (lambda f: flip(f / "auxiliary.pkl"), {"auxiliary": CHANGED}),
    "no second weights": (lambda f: (f / "auxiliary.pkl").unlink(), {"auxiliary": MISSING}),
    "a byte of a part": (lambda f: flip(f / "parts/lora.pkl"), {"lora.pkl": CHANGED}),
    "no part": (lambda f: (f / "parts/lora.pkl").unlink(), {"lora.pkl": MISSING}),
    "no record": (
        lambda f: (f / "parts/pipeline.json").unlink(),
        {"record of the training": MISSING},
    ),
    "the record of another part": (
        lambda f: edited(f / "parts/pipeline.json", lambda r: r[2].update(sha256="0" * 64)),
        {"record of the training": CHANGED},
    ),
    "a record that is cut off": (
        lambda f: (f / "parts/pipeline.json").write_text("[{"),
        {"record of the training": CHANGED},
    ),
    "a template": (
        lambda f: replaced(f / "kit/prompts/templates.json", "a photo of", "a picture of"),
        {"templates.json": CHANGED},
    ),
    "no templates": (
        lambda f: (f / "kit/prompts/templates.json").unlink(),
        {"templates.json": MISSING},
    ),
    "a negative": (lambda f: flip(f / "kit/prompts/negatives.json"), {"negatives.json": CHANGED}),
    "code of the test": (
        lambda f: (f / "kit/fewshot/inference/mta.py").write_text("pass\n"),
        {"code of the test run": CHANGED},
    ),
    "no code of the test": (
        lambda f: (f / "kit/fewshot/inference/mta.py").unlink(),
        {"code of the test run": MISSING},
    ),
    "code of both": (
        lambda f: (f / "kit/models/heads/gda.py").write_text("pass\n"),
        {"code of the test run": CHANGED, "code of the parts": CHANGED},
    ),
    "a byte of a shot": (lambda f: flip(shot(f)), {"images of the shots": CHANGED}),
    "no shot": (lambda f: shot(f).unlink(), {"images of the shots": MISSING}),
    "another shot": (other_shot, {"split": CHANGED}),
    "a split of other data": (
        lambda f: replaced(f / "split.jsonl", ".png", "_x.png"),
        {"split": CHANGED},
    ),
    "no split": (lambda f: (f / "split.jsonl").unlink(), {"split": MISSING}),
    "a new class": (
        lambda f: replaced(f / "data/classes_b.txt", "Digit_nine", "Digit_ten"),
        {"class names": CHANGED},
    ),
    "no data": (lambda f: shutil.rmtree(f / "data"), {"training data": MISSING}),
    "a list that cannot be read": (
        lambda f: replaced(f / "data/classes.txt", " 0", " zero"),
        {"training data": CHANGED},
    ),
    "a shot of the manifest": (
        lambda f: edited(f / "out/manifest.json", lambda m: m["shots"][0].__setitem__(1, "0")),
        {"list of shots": CHANGED, "images of the shots": CHANGED},
    ),
    "a setting of the manifest": (
        lambda f: edited(
            f / "out/manifest.json", lambda m: m["made_from"]["gda.pkl"].update(seed=2)
        ),
        {"records in the parts": CHANGED},
    ),
    "no list of code": (
        lambda f: edited(f / "out/manifest.json", lambda m: m.pop("code")),
        {"code of the test run": NOT_RECORDED},
    ),
    "no digest of the images": (
        lambda f: edited(f / "out/manifest.json", lambda m: m["inputs"].pop("images_sha256")),
        {"test images": NOT_RECORDED},
    ),
}
