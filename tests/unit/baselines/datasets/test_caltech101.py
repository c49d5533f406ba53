"""Caltech-101 in every form, with 100, 101 and 102 classes."""

import tarfile

import numpy as np
import pytest

from baselines.datasets.caltech101 import IMAGES, PACKAGE, open_caltech
from baselines.datasets.registry import load_dataset
from data.lists import DataError
from runtime.paths import ROOT
from tests.helpers import archives as small_archives

SHARED = ROOT.parent / "shared" / "data"
CLASSES = ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion", "yin_yang")
TOP = "101_ObjectCategories"


def official_files():
    files = {
        f"{TOP}/{name}/image_{i:04}.jpg": small_archives.jpeg(10 * number + i)
        for number, name in enumerate(CLASSES)
        for i in (2, 1, 3)
    }
    return files | {f"{TOP}/BACKGROUND_Google/tmp": b"junk that the official archive holds"}


def nested(inner):
    files = {f"caltech-101/{TOP}.tar.gz": inner, "caltech-101/Annotations.tar": b"x"}
    return small_archives.zipped(files | {f"__MACOSX/caltech-101/._{TOP}.tar.gz": b"x"})


@pytest.fixture(params=["zip", "tar", "inner tar", "folder", "package", "class folders"])
def root(request, monkeypatch, tmp_path):
    inner, form = small_archives.tar_gz(official_files()), request.param
    if form == "zip":
        content = nested(inner)
        small_archives.put_official(monkeypatch, tmp_path, PACKAGE, content)
    elif form in ("tar", "inner tar"):
        place = tmp_path if form == "tar" else tmp_path / "caltech-101"
        small_archives.put_official(monkeypatch, place, IMAGES, inner)
    else:
        place = {"folder": tmp_path, "package": tmp_path / "caltech-101"}.get(form, tmp_path)
        for name, content in official_files().items():
            path = place / (name.removeprefix(f"{TOP}/") if form == "class folders" else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return tmp_path


def test_all_forms_hold_the_same(root):
    images = open_caltech(root, "all", 101)
    names = ("Faces", "Faces_easy", "accordion", "yin_yang")
    assert images.class_names == names
    assert images.labels.tolist() == np.repeat(range(4), 3).tolist()
    assert images.keys[:4] == (
        "Faces/image_0001.jpg",
        "Faces/image_0002.jpg",
        "Faces/image_0003.jpg",
        "Faces_easy/image_0001.jpg",
    )
    assert np.array_equal(
        np.asarray(images.image(0)), small_archives.opened(small_archives.jpeg(11))
    )
    assert open_caltech(root, "all", 100).class_names == ("Faces", "accordion", "yin_yang")
    assert open_caltech(root, "all", 102).class_names == CLASSES


def test_the_split_does_not_depend_on_the_number_of_classes(root):
    parts = {n: load_dataset("caltech101", root, "test", classes=n) for n in (100, 101, 102)}
    for smaller, larger in ((100, 101), (101, 102)):
        assert set(parts[smaller].keys) < set(parts[larger].keys)


def test_wrong_number_of_classes(tmp_path):
    with pytest.raises(ValueError, match="classes is 99; Caltech-101 has 102 folders, 101 without"):
        open_caltech(tmp_path, "all", 99)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="put caltech-101.zip there"):
        open_caltech(tmp_path, "all")


def test_an_archive_without_images(monkeypatch, tmp_path):
    content = nested(small_archives.tar_gz({"else/a.jpg": small_archives.jpeg(0)}))
    small_archives.put_official(monkeypatch, tmp_path, PACKAGE, content)
    with pytest.raises(DataError, match="caltech-101.zip: holds no image in 101_ObjectCategories/"):
        open_caltech(tmp_path, "all")


def test_a_broken_image_out_of_an_archive_is_named(monkeypatch, tmp_path):
    files = official_files() | {f"{TOP}/Faces/image_0001.jpg": small_archives.jpeg(1)[:200]}
    content = nested(small_archives.tar_gz(files))
    small_archives.put_official(monkeypatch, tmp_path, PACKAGE, content)
    with pytest.raises(DataError, match="caltech-101.zip: Faces/image_0001.jpg: .*replace this"):
        open_caltech(tmp_path, "all").image(0)


def test_the_real_subset(tmp_path):
    path = SHARED / "caltech101_subset.tar"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path)
    for classes in (100, 101, 102):
        images = open_caltech(tmp_path, "all", classes)
        assert len(images.class_names) == classes and len(images) == 14 * classes
    train, test = (load_dataset("caltech101", tmp_path, part) for part in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [11] * 101  # round(0.8 * 14)
    assert np.bincount(test.labels).tolist() == [3] * 101
    assert not set(train.keys) & set(test.keys)
    assert test.image(0).mode == "RGB"
