"""Tiny-ImageNet in its official layout, zipped and unpacked."""

import zipfile

import numpy as np
import pytest

from baselines.datasets.tiny_imagenet import ARCHIVE, open_tiny_imagenet
from data.lists import DataError
from tests.helpers import archives as small_archives

TOP = "tiny-imagenet-200"
WNIDS = ("n02124075", "n01443537", "n04067472")  # wnids.txt is not sorted
ANNOTATED = ("n04067472", "n01443537", "n01443537")


def official_files():
    files = {f"{TOP}/wnids.txt": "\n".join(WNIDS).encode()}
    words = ["n00001740\tentity", "n01443537\tgoldfish, Carassius auratus"]
    words += ["n02124075\tEgyptian cat", "n04067472\treel"]
    files[f"{TOP}/words.txt"] = "\n".join(words).encode()
    for number, wnid in enumerate(WNIDS):
        files[f"{TOP}/train/{wnid}/{wnid}_boxes.txt"] = b"box"
        for i in (0, 10, 2):
            name = f"{TOP}/train/{wnid}/images/{wnid}_{i}.JPEG"
            files[name] = small_archives.jpeg(10 * number + i, (64, 64))
    lines = [f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62" for i, wnid in enumerate(ANNOTATED)]
    files[f"{TOP}/val/val_annotations.txt"] = ("\n".join(lines) + "\n").encode()
    for i in range(3):
        files[f"{TOP}/val/images/val_{i}.JPEG"] = small_archives.jpeg(100 + i, (64, 64))
        files[f"{TOP}/test/images/test_{i}.JPEG"] = small_archives.jpeg(200 + i, (64, 64))
    return files


def unpack(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(params=["zip", "folder"])
def place(request, monkeypatch, tmp_path):
    """make(files): the data set in one of its forms; returns the roots that must work."""

    def make(files):
        if request.param == "folder":
            unpack(tmp_path, files)
            return tmp_path, tmp_path / TOP
        content = small_archives.zipped(files)
        return tmp_path, small_archives.put_official(monkeypatch, tmp_path, ARCHIVE, content)

    return make


def test_both_parts(place):
    for root in place(official_files()):
        train = open_tiny_imagenet(root, "train")
        assert train.class_names == ("n01443537", "n02124075", "n04067472")
        assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        names = [f"train/n01443537/images/n01443537_{i}.JPEG" for i in (0, 2, 10)]
        assert list(train.keys[:3]) == names
        test = open_tiny_imagenet(root, "test")
        assert test.keys == (
            "val/images/val_1.JPEG",
            "val/images/val_2.JPEG",
            "val/images/val_0.JPEG",
        )
        assert test.labels.tolist() == [0, 0, 2] and test.class_names == train.class_names
        files = official_files()
        expected = small_archives.opened(files[f"{TOP}/val/images/val_0.JPEG"])
        assert np.array_equal(np.asarray(test.image(2)), expected)
        assert train.in_memory().images.shape == (9, 64, 64, 3)


def changed(**files):
    result = official_files()
    for name, content in files.items():
        path = {"annotations": "val/val_annotations.txt"}.get(name, name)
        key = f"{TOP}/{path}"
        if content is None:
            del result[key]
        else:
            result[key] = content
    return result


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (changed(annotations=None), "val_annotations.txt is missing"),
        (changed(annotations=b"val_0.JPEG\tn09999999\t0\n"), "n09999999|has no class"),
        (changed(annotations=b"val_0.JPEG n01443537\n"), "line 1: expected image, tab, class"),
        (changed(annotations=b"val_9.JPEG\tn01443537\n"), "line 1: val/images/val_9.JPEG is miss"),
        (changed(annotations=b"val_0.JPEG\tn01443537\n" * 2), "line 2: val_0.JPEG is listed"),
        (changed(annotations=b"val_0.JPEG\tn01443537\n"), "val_1.JPEG has no class in val/val_ann"),
    ],
)
def test_wrong_annotations(place, files, message):
    root, _ = place(files)
    with pytest.raises(DataError, match=message) as error:
        open_tiny_imagenet(root, "test")
    assert str(root) in str(error.value)


def test_a_class_that_is_not_listed(place):
    files = official_files()
    files[f"{TOP}/train/n00000000/images/n00000000_0.JPEG"] = small_archives.jpeg(0)
    lines = files[f"{TOP}/val/val_annotations.txt"].replace(b"n04067472", b"n00000001")
    files[f"{TOP}/val/val_annotations.txt"] = lines
    root, _ = place(files)
    with pytest.raises(DataError, match="class 'n00000000', which wnids.txt does not list"):
        open_tiny_imagenet(root, "train")
    with pytest.raises(DataError, match="class 'n00000001', which wnids.txt does not list"):
        open_tiny_imagenet(root, "test")


def test_misplaced_and_missing_images(place):
    files = official_files()
    files[f"{TOP}/train/n01443537/loose.JPEG"] = small_archives.jpeg(0)
    root, _ = place(files)
    with pytest.raises(DataError, match="loose.JPEG is not in train/<class>/images/"):
        open_tiny_imagenet(root, "train")


def test_no_image(place):
    files = {name: c for name, c in official_files().items() if "/train/" not in name}
    root, _ = place(files)
    with pytest.raises(DataError, match="holds no image in train/"):
        open_tiny_imagenet(root, "train")


def test_a_broken_image_is_named(place):
    name = "train/n01443537/images/n01443537_2.JPEG"
    root, _ = place(changed(**{name: b"<html>"}))
    image_set = open_tiny_imagenet(root, "train")
    assert image_set.image(0).size == (64, 64)
    with pytest.raises(DataError, match="n01443537_2.JPEG: UnidentifiedImageError.*replace this"):
        image_set.image(1)
    with pytest.raises(DataError, match="n01443537_2.JPEG"):
        image_set.in_memory()


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="put tiny-imagenet-200.zip there"):
        open_tiny_imagenet(tmp_path, "train")


def test_a_zip_that_is_another(tmp_path):
    with zipfile.ZipFile(tmp_path / f"{TOP}.zip", "w") as archive:
        archive.writestr("x", b"x")
    with pytest.raises(DataError, match="its MD5 is"):
        open_tiny_imagenet(tmp_path, "train")
