"""CIFAR in every form, and the errors for broken or hostile files."""

import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from baselines.datasets.cifar import ARCHIVES, open_cifar
from data.lists import DataError
from runtime.paths import ROOT
from tests.helpers import archives as small_archives

SHARED = ROOT.parent / "shared" / "data"
FORMS = [(name, binary) for name in ("cifar10", "cifar100") for binary in (False, True)]


def official(monkeypatch, folder, name, binary, files=None):
    """The archive under its official name, its MD5 taken for the official one."""
    content = small_archives.tar_gz(files or small_archives.cifar_files(name, binary))
    return small_archives.put_official(monkeypatch, folder, ARCHIVES[name][int(binary)], content)


def unpacked(folder, name, binary, **changed):
    for member, content in small_archives.cifar_files(name, binary).items():
        path = folder / member
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(changed.get(path.name, content))
    return path.parent


@pytest.mark.parametrize(("name", "binary"), FORMS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_archive(monkeypatch, tmp_path, name, binary, part):
    path = official(monkeypatch, tmp_path, name, binary)
    image_set = open_cifar(name, tmp_path, part)
    count = {"train": 20, "test": 4}[part]
    classes = {"cifar10": 10, "cifar100": 100}[name]
    assert np.array_equal(image_set.images, small_archives.cifar_pixels(part, count))
    assert image_set.images.flags.c_contiguous
    test = [3, 0, classes - 1, 3]
    assert image_set.labels.tolist() == (
        test if part == "test" else [(7 * i) % classes for i in range(20)]
    )
    assert image_set.labels.dtype == np.int32
    assert image_set.class_names == tuple(
        small_archives.CIFAR10 if classes == 10 else small_archives.CIFAR100
    )
    assert image_set.keys == tuple(f"{part}/{row}" for row in range(count))
    assert np.array_equal(np.asarray(image_set.image(1)), image_set.images[1])
    assert os.listdir(tmp_path) == [path.name]  # nothing is unpacked
    assert open_cifar(name, path, part).keys == image_set.keys  # the archive itself is named
    renamed = path.rename(tmp_path / "mine (1).tgz")
    assert np.array_equal(open_cifar(name, renamed, part).images, image_set.images)


@pytest.mark.parametrize(("name", "binary"), FORMS)
def test_unpacked(tmp_path, name, binary):
    folder = unpacked(tmp_path, name, binary)
    for root in (tmp_path, folder):
        image_set = open_cifar(name, root, "test")
        assert np.array_equal(image_set.images, small_archives.cifar_pixels("test", 4))


def test_class_folders(tmp_path):
    pixels = small_archives.cifar_pixels("train", 20)
    for part, count in (("train", 20), ("test", 4)):
        for row in range(count):
            path = tmp_path / part / small_archives.CIFAR10[row % 10] / f"{row}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels[row]).save(path)
    image_set = open_cifar("cifar10", tmp_path, "train")
    assert image_set.keys[:3] == (
        "train/airplane/0.png",
        "train/airplane/10.png",
        "train/automobile/1.png",
    )
    assert np.array_equal(image_set.images[:3], pixels[[0, 10, 1]])
    assert image_set.class_names == tuple(small_archives.CIFAR10)
    test = open_cifar("cifar10", tmp_path, "test")  # has four of the classes
    assert test.labels.tolist() == [0, 1, 2, 3] and test.class_names == image_set.class_names
    with pytest.raises(DataError, match="holds 10 classes, cifar100 has 100"):
        open_cifar("cifar100", tmp_path, "train")
    Image.fromarray(pixels[0, :30]).save(tmp_path / "train/truck/19.png")
    with pytest.raises(DataError, match=r"train/truck/19.png has 32 x 30 pixels"):
        open_cifar("cifar10", tmp_path, "train")


def test_class_folders_of_another_size(tmp_path):
    for name in small_archives.CIFAR10:
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "train" / name / "0.png")
    with pytest.raises(DataError, match="64 x 64 pixels, .* 32 x 32; .*--dataset folder"):
        open_cifar("cifar10", tmp_path, "train")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="put cifar-10-python.tar.gz there") as error:
        open_cifar("cifar10", tmp_path, "train")
    archive = ARCHIVES["cifar10"][0]
    assert archive.url in str(error.value) and archive.md5 in str(error.value)


def test_cut_off_and_wrong_archives_are_refused_by_md5(monkeypatch, tmp_path):
    path = official(monkeypatch, tmp_path, "cifar10", False)
    whole = path.read_bytes()
    for wrong in (whole[: len(whole) // 2], whole + b"x", b"<html>404</html>", b""):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match="its MD5 is .*; move it away") as error:
            open_cifar("cifar10", tmp_path, "train")
        assert str(path) in str(error.value)
        assert ARCHIVES["cifar10"][0].md5 in str(error.value)


def test_a_member_is_missing(monkeypatch, tmp_path):
    files = small_archives.cifar_files("cifar10", False)
    del files["cifar-10-batches-py/data_batch_3"]
    official(monkeypatch, tmp_path, "cifar10", False, files)
    with pytest.raises(DataError, match="data_batch_3 is missing"):
        open_cifar("cifar10", tmp_path, "train")
    assert len(open_cifar("cifar10", tmp_path, "test")) == 4
    folder = unpacked(tmp_path / "unpacked", "cifar10", False)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing"):
        open_cifar("cifar10", folder, "train")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_run(tmp_path):
    trap = tmp_path / "trap"
    for bad in (pickle.dumps({"data": Hostile(trap)}, 2), pickle.dumps(Hostile(trap), 2)):
        folder = unpacked(tmp_path, "cifar10", False, test_batch=bad)
        with pytest.raises(DataError, match="test_batch: is damaged .* nothing in it was run"):
            open_cifar("cifar10", folder, "test")
    assert not trap.exists()


PIXELS = small_archives.planes(small_archives.cifar_pixels("test", 2))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": PIXELS, "labels": [0, 10]}, "label 10 of test/1 is out of the range 0 to 9"),
        ({"data": PIXELS, "labels": [0, -1]}, "label -1 of test/1 is out of"),
        ({"data": PIXELS, "labels": [0, 2**31 - 1]}, "label 2147483647 of test/1"),
        ({"data": PIXELS, "labels": [0]}, "test_batch: is no batch of CIFAR"),
        ({"data": PIXELS, "labels": [0, True]}, "test_batch: is no batch of CIFAR"),
        ({"data": PIXELS, "fine_labels": [0, 1]}, "test_batch: is no batch of CIFAR"),
        ({"data": PIXELS[:, 1:], "labels": [0, 1]}, "test_batch: is no batch of CIFAR"),
        ({"data": PIXELS.tobytes(), "labels": [0, 1]}, "test_batch: is no batch of CIFAR"),
        ({}, "test_batch: is no batch of CIFAR"),
        ([1, 2], "test_batch: holds list"),
    ],
)
def test_wrong_batches(tmp_path, batch, message):
    folder = unpacked(tmp_path, "cifar10", False, test_batch=small_archives.pickled(batch))
    with pytest.raises(DataError, match=message) as error:
        open_cifar("cifar10", folder, "test")
    assert str(folder) in str(error.value)


def test_cut_off_files_of_the_unpacked_folder(tmp_path):
    whole = small_archives.cifar_files("cifar10", False)["cifar-10-batches-py/test_batch"]
    for share in (0, 1, 50, 99):
        cut = whole[: len(whole) * share // 100]
        folder = unpacked(tmp_path, "cifar10", False, test_batch=cut)
        with pytest.raises(DataError, match="test_batch: is damaged"):
            open_cifar("cifar10", folder, "test")
    whole = small_archives.cifar_files("cifar10", True)["cifar-10-batches-bin/test_batch.bin"]
    for cut in (b"", whole[:-1], whole[:100]):
        folder = unpacked(tmp_path / "bin", "cifar10", True, **{"test_batch.bin": cut})
        with pytest.raises(DataError, match="test_batch.bin: is cut off"):
            open_cifar("cifar10", folder, "test")


def test_wrong_class_names(tmp_path):
    for names in (["cat"], [1] * 10, "cat"):
        meta = small_archives.pickled({"label_names": names})
        folder = unpacked(tmp_path, "cifar10", False, **{"batches.meta": meta})
        with pytest.raises(DataError, match="batches.meta: (names 1 classes|has no list)"):
            open_cifar("cifar10", folder, "test")


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_real_subset(tmp_path, name, classes):
    path = SHARED / f"{name}_subset.tar"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with tarfile.open(path) as archive:
        images: dict[str, list] = {}
        for member in archive:
            if "/test/" in member.name and member.isfile():
                images.setdefault(member.name.rpartition("/")[0], []).append(member)
        for members in images.values():  # enough: many small files are slow
            for member in members[: 20 if classes == 10 else 1]:
                archive.extract(member, tmp_path)
    (tmp_path / name / "train").symlink_to("test")  # only gives the names of the classes here
    image_set = open_cifar(name, tmp_path / name, "test")
    count = {10: 20, 100: 1}[classes]
    assert image_set.images.shape == (count * classes, 32, 32, 3)
    assert np.bincount(image_set.labels).tolist() == [count] * classes
    assert len(image_set.class_names) == classes
