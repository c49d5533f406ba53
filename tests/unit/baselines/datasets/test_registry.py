"""The registry of data sets: names, parts, and the error if the data are missing."""

import numpy as np
import pytest

from baselines.datasets.registry import DATASETS, load_dataset
from data.lists import DataError
from tests.helpers import archives as small_archives


def put(root, *names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_archives.jpeg(number))


def test_folders_with_parts(tmp_path):
    put(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "val/dog/3.jpg", "test/cat/4.jpg")
    assert load_dataset("folder", tmp_path).keys == ("train/cat/1.jpg", "train/dog/2.jpg")
    for part, key, label in (("val", "val/dog/3.jpg", 1), ("test", "test/cat/4.jpg", 0)):
        image_set = load_dataset("folder", tmp_path, part)
        assert image_set.keys == (key,) and image_set.labels.tolist() == [label]
        assert image_set.class_names == ("cat", "dog")
    with pytest.raises(DataError, match="extra: no such folder"):
        load_dataset("folder", tmp_path, "extra")
    put(tmp_path, "test/fox/1.jpg")
    with pytest.raises(DataError, match="test/fox: the training images have no class"):
        load_dataset("folder", tmp_path, "test")


def test_folders_without_parts_are_split_by_the_seed(tmp_path):
    put(tmp_path, *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(10)))
    train, test, whole = (load_dataset("folder", tmp_path, p) for p in ("train", "test", "all"))
    assert np.bincount(train.labels).tolist() == [8, 8]
    assert sorted((*train.keys, *test.keys)) == sorted(whole.keys)
    assert test.keys == load_dataset("folder", tmp_path, "test").keys
    with pytest.raises(ValueError, match="part is 'val'; .* has train, test and all"):
        load_dataset("folder", tmp_path, "val")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet"])
@pytest.mark.parametrize("part", ["val", "all"])
def test_no_validation_part_that_is_the_test_part(tmp_path, name, part):
    with pytest.raises(ValueError, match=f"part is '{part}'; {name} has train, test"):
        load_dataset(name, tmp_path, part)


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].archives])
def test_nothing_there(tmp_path, name):
    with pytest.raises(DataError, match=f"{tmp_path}: .*put .* there .from https?://.*MD5"):
        load_dataset(name, tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder or archive"):
        load_dataset(name, tmp_path / "nowhere")


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="no data set is named 'mnist'; there are cifar10, "):
        load_dataset("mnist", tmp_path)


def test_an_archive_by_its_name(monkeypatch, tmp_path):
    content = small_archives.tar_gz(small_archives.cifar_files("cifar100", False))
    small_archives.put_official(monkeypatch, tmp_path, DATASETS["cifar100"].archives[0], content)
    assert len(load_dataset("cifar100", tmp_path)) == 20
    assert len(load_dataset("cifar100", tmp_path, "test").class_names) == 100
