"""One door to the data sets: names, parts, and what it says where there is none."""

import numpy as np
import pytest

from baselines.datasets.archives import ARCHIVES
from baselines.datasets.registry import FIXED, load_dataset
from data.lists import DataError
from tests.helpers import archive_kit as kit


def put(root, *names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kit.jpeg(number))


def test_folders_with_parts(tmp_path):
    put(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "val/dog/3.jpg", "test/cat/4.jpg")
    assert load_dataset("folder", tmp_path).keys == ("train/cat/1.jpg", "train/dog/2.jpg")
    for part, key, label in (("val", "val/dog/3.jpg", 1), ("test", "test/cat/4.jpg", 0)):
        found = load_dataset("folder", tmp_path, part)
        assert found.keys == (key,) and found.labels.tolist() == [label]
        assert found.class_names == ("cat", "dog")
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
    assert load_dataset("folder", tmp_path, "test", seed=1).keys != test.keys
    assert len(load_dataset("folder", tmp_path, "test", shares=(0.5, 0.5))) == 10
    with pytest.raises(ValueError, match="part is 'val'; folder has train, test and all"):
        load_dataset("folder", tmp_path, "val")
    with pytest.raises(ValueError, match="there are two parts"):
        load_dataset("folder", tmp_path, "test", shares=(0.5, 0.3, 0.2))


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("part", ["val", "all"])
def test_no_validation_part_that_is_the_test_part(tmp_path, name, part):
    with pytest.raises(
        ValueError, match=f"part is '{part}'; {name} has train and test: draw a val"
    ):
        load_dataset(name, tmp_path, part)


@pytest.mark.parametrize("name", ARCHIVES)
def test_nothing_there(tmp_path, name):
    with pytest.raises(DataError, match=f"holds no {name}; put .* there .from https?://.*MD5"):
        load_dataset(name, tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder or archive"):
        load_dataset(name, tmp_path / "nowhere")


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="no data set is named 'mnist'; there are cifar10, "):
        load_dataset("mnist", tmp_path)


def test_an_archive_by_its_name(monkeypatch, tmp_path):
    content = kit.tar_gz(kit.cifar_files("cifar100", False))
    kit.put(tmp_path, kit.accept(monkeypatch, "cifar100", 0, content), content)
    assert len(load_dataset("cifar100", tmp_path)) == 20
    assert len(load_dataset("cifar100", tmp_path, "test").class_names) == 100
