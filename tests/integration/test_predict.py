"""Test time on a part of the demo: shards, views, routing, verification and bad files."""

import json
import shutil
import subprocess
import sys

import pytest

from benchmarks import measure_growth
from data.few_shot_dataset import list_test_images
from engine import checkpoint
from fewshot.inference import submission
from fewshot.inference.classifiers import ROUTINGS
from fewshot.inference.mta import METHODS
from fewshot.inference.shards import ChunkStore
from recipes import predict
from runtime.paths import ROOT
from tests.helpers.main_job import predict_config, result_lines, score
from tests.robustness import malformed
from weight_files import safe_load


def test_images(job, count):
    return [item.path for item in list_test_images(job / "demo", "TestSetB")[:count]]


test_images.__test__ = False  # pytest takes functions of this name for tests


@pytest.fixture(scope="module")
def images(job, tmp_path_factory):
    """A folder of 150 test images, which make three chunks."""
    folder = tmp_path_factory.mktemp("images") / "images"
    folder.mkdir()
    for path in test_images(job, 150):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def whole(job, images, tmp_path_factory):
    """The folder of a run without shards."""
    out = tmp_path_factory.mktemp("whole")
    score(job, out, images=str(images))
    return out


def contents(out):
    return [(out / name).read_bytes() for name in ("result.txt", "result.zip")]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_give_the_same_bytes(job, images, whole, tmp_path, count, capsys):
    options = {"images": str(images), "cache": whole / "cache"}
    for number in range(count, 0, -1):
        if number == 1 and count > 1:
            with pytest.raises(ValueError, match=r"images in [12] of 3 chunks are missing"):
                score(job, tmp_path, merge=True, **options)
        predict.run(predict_config(job, tmp_path, shard=f"{number}/{count}", **options))
        assert not (tmp_path / "result.txt").exists()
    output = capsys.readouterr().out
    assert "test: shard 1/" in output and "of 150 images" in output
    score(job, tmp_path, merge=True, **options)
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("prefetch", [1, 7, 64])
def test_workers_and_batches_change_no_byte(job, images, whole, tmp_path, workers, prefetch):
    score(job, tmp_path, images=str(images), workers=workers, prefetch=prefetch)
    assert contents(tmp_path) == contents(whole)


def test_a_stopped_run_goes_on(job, images, whole, tmp_path):
    options = {"images": str(images), "cache": tmp_path / "cache"}
    predict.run(predict_config(job, tmp_path, shard="1/2", **options))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shards/*/*.npz")}
    shutil.rmtree(tmp_path / "cache")
    score(job, tmp_path, **options)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shards/*/*.npz")}
    assert len(before) == 2 and len(after) == 3 and before.items() < after.items()
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("tta", METHODS)
def test_every_way_to_use_views_is_valid_and_its_own(job, images, whole, tmp_path, tta):
    lines = score(job, tmp_path, images=str(images), tta=tta, cache=whole / "cache")
    submission.validate(tmp_path / "result.txt", list(lines), 10)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["inference"]["tta"] == tta
    assert manifest["inference"]["views"]["count"] == (1 if tta == "none" else 3)
    assert (contents(tmp_path) == contents(whole)) == (tta == "mta")


@pytest.mark.parametrize("routing", ROUTINGS)
def test_every_routing_is_valid_and_a_hard_one_keeps_groups_together(
    job, images, whole, tmp_path, routing
):
    lines = score(job, tmp_path, images=str(images), routing=routing, cache=whole / "cache")
    kinds = [[int(k) >= 7 for k in line.split()] for line in lines.values()]  # 7, 8, 9 are new
    new_first = [kind for kind in kinds if kind[0]]
    if routing == "hard":
        assert 0 < len(new_first) < 150
        assert all(kind == [True] * 3 + [False] * 2 for kind in new_first)
        assert all(kind == [False] * 5 for kind in kinds if not kind[0])
    else:
        assert any(kind not in ([True] * 3 + [False] * 2, [False] * 5) for kind in kinds)


def verify(*arguments):
    command = [sys.executable, "test.py", "--verify", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_manifest_is_verified(whole, tmp_path):
    same = verify(whole / "manifest.json")
    assert same.returncode == 0 and same.stdout.endswith("manifest.json: identical\n"), same.stderr
    before = contents(whole)
    manifest = json.loads((whole / "manifest.json").read_text())
    for name in ("manifest.json", "result.txt"):
        shutil.copy(whole / name, tmp_path)
    changed = verify(tmp_path / "manifest.json", "--tta", "none")
    assert changed.returncode == 1 and "Traceback" not in changed.stderr
    assert "result.txt: the bytes differ" in changed.stderr
    assert "is now 'image_" in changed.stderr
    assert "inference: tta: was mta, is now none" in changed.stderr
    assert contents(whole) == before and manifest["config"]["out"] == str(whole)


def test_two_hundred_malformed_files(job, whole, tmp_path, capsys):
    expected = malformed.make(tmp_path / "images")
    good = test_images(job, 30)
    for path in good:
        shutil.copy(path, tmp_path / "images")
    out = tmp_path / "out"
    score(job, out, images=str(tmp_path / "images"), workers=2, views=2)
    lines, manifest = result_lines(out), json.loads((out / "manifest.json").read_text())
    broken = dict(manifest["skipped_images"])
    assert len(expected) >= 200 and len(lines) == len(expected) + 30
    assert {name for name, readable in expected.items() if readable is False} <= set(broken)
    assert set(broken) <= {name for name, readable in expected.items() if not readable}
    assert all(cause and str(tmp_path) not in cause for cause in broken.values())
    assert f"{len(broken)} images could not be read" in capsys.readouterr().out
    submission.validate(out / "result.txt", list(lines), 10)
    score(job, tmp_path / "alone", images=str(job / "demo/TestSetB"), views=2)
    alone = result_lines(tmp_path / "alone")
    assert all(lines[path.name] == alone[path.name] for path in good)


def test_names_that_no_result_can_hold_are_refused_before_any_work(job, tmp_path):
    (tmp_path / "images").mkdir()
    shutil.copy(test_images(job, 1)[0], tmp_path / "images/two\nlines.png")
    with pytest.raises(ValueError, match="two.nlines.png"):
        score(job, tmp_path / "out", images=str(tmp_path / "images"))
    assert not any((tmp_path / "out").iterdir())


def test_other_settings_and_other_parts_are_scored_anew_in_the_same_folder(
    job, images, whole, tmp_path
):
    options = {"images": str(images), "cache": whole / "cache"}
    score(job, tmp_path / "out", **options)
    again = score(job, tmp_path / "out", tta="none", **options)
    assert again == score(job, tmp_path / "fresh", tta="none", **options)
    shutil.copytree(job / "parts", tmp_path / "parts")
    stored = safe_load(tmp_path / "parts/gda.pkl")
    stored["part"]["weight"] = 50 * stored["part"]["weight"] + 5
    checkpoint.save(tmp_path / "parts/gda.pkl", stored)
    changed = score(job, tmp_path / "out", parts=tmp_path / "parts", **options)
    assert changed == score(job, tmp_path / "fresh2", parts=tmp_path / "parts", **options)
    assert contents(tmp_path / "out") != contents(whole)


def test_an_image_that_changes_while_it_is_scored_stops_the_run(job, images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    items = list_test_images(tmp_path / "images", ".")

    class Scorer:
        def __call__(self, names, paths, tick):
            items[3].path.write_bytes(b"other bytes")

    store = ChunkStore(tmp_path / "shards", {})
    with pytest.raises(ValueError, match="changed while it was scored: run again"):
        predict.score_chunks("", items, Scorer(), store)
    assert not list(tmp_path.glob("shards/*/*"))


def test_no_report_or_scores_of_another_result_stay_behind(job, images, tmp_path, whole):
    options = {"images": str(images), "cache": whole / "cache"}
    labels = job / "demo/TestSetB_labels.txt"
    score(job, tmp_path, labels=labels, report=True, **options)
    assert (tmp_path / "scores.json").exists() and (tmp_path / "report.html").exists()
    score(job, tmp_path, tta="mean", **options)
    assert not (tmp_path / "scores.json").exists() and not (tmp_path / "report.html").exists()


def test_growth_is_measured_on_a_run_of_its_own(job, capsys):
    config = measure_growth.Config(
        counts=(3, 5),
        data=job / "demo",
        weights=job / "clip.pkl",
        auxiliary=job / "auxiliary.pkl",
        parts=job / "parts",
    )
    measure_growth.main(config)
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[0] == "images" and [row.split()[0] for row in rows] == ["3", "5"]
    assert all(float(value) > 0 for row in rows for value in row.split())


def test_a_test_run_imports_no_code_of_training_or_reports():
    code = (
        "import runtime, sys; from recipes import predict; print('\\n'.join(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    modules = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(modules.stdout.split())
    assert "fewshot.inference.scorer" in imported
    unwanted = {"engine.trainer", "engine.run_log", "engine.batches", "fewshot.stages.pipeline"}
    unwanted |= {"fewshot.evaluation.report", "fewshot.provenance.audit", "baselines"}
    assert not imported & (unwanted | {"tensorboardX", "matplotlib", "jinja2"})
