"""Contest trees, folders, lists and test sets, also as archives and desktops leave them."""

import os
from pathlib import Path

import pytest

from data.few_shot_dataset import DataError, list_test_images, open_dataset
from data.lists import read_classes
from runtime.paths import ROOT

SHARED = ROOT.parent / "shared" / "data"
BASE = ("Animal_Bear", "Animal_Bee", "Thu-dog_papillon")
NEW = ("Stanford-Cars_Ford_F-150_Regular_Cab_2007",)
TRAIN = ("Animal/Bear/10.jpg 0", "Animal/Bear/9.PNG 0", "Animal/Bee/a b.jpeg 1")
TRAIN += ("Thu-dog/papillon/1.jpg 2",)


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_lines(path, lines):
    put(path, "\n".join(lines).encode())  # the organisers' lists lack the last newline


def contest(root, nested=False, prefix="TrainSet/", new=NEW, train=TRAIN):
    put_lines(root / "classes.txt", [f"{name} {i}" for i, name in enumerate(BASE)])
    if new:
        put_lines(root / "classes_b.txt", [f"{name} {i}" for i, name in enumerate(BASE + new)])
    put_lines(root / "train.txt", [prefix + line for line in train])
    for line in train:
        top = root / "TrainSet" / ("TrainSet" if nested else "")
        put(top / line.rsplit(" ", 1)[0])
    return root


def error(root):
    with pytest.raises(DataError) as caught:
        open_dataset(root)
    return str(caught.value)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "prefix", ["TrainSet/", "TrainSet/TrainSet/", "Dataset/TrainSet/TrainSet/"]
)
def test_contest_tree_flat_and_nested(tmp_path, nested, prefix):
    tree = open_dataset(contest(tmp_path, nested, prefix))
    assert (tree.kind, tree.nested, tree.root) == ("contest", nested, tmp_path)
    assert tree.label_space.names == BASE + NEW
    assert (tree.label_space.base_ids, tree.label_space.new_ids) == ((0, 1, 2), (3,))
    assert [(item.name, item.label) for item in tree.train] == [
        ("TrainSet/Animal/Bear/9.PNG", 0),
        ("TrainSet/Animal/Bear/10.jpg", 0),
        ("TrainSet/Animal/Bee/a b.jpeg", 1),
        ("TrainSet/Thu-dog/papillon/1.jpg", 2),
    ]
    assert all(item.path.is_file() for item in tree.train)


def test_new_classes_follow_lists_and_training_labels(tmp_path):
    one_list = open_dataset(contest(tmp_path / "one", new=()))
    assert (one_list.label_space.base_ids, one_list.label_space.new_ids) == ((0, 1, 2), ())
    no_papillon = open_dataset(contest(tmp_path / "untrained", new=(), train=TRAIN[:3]))
    assert (no_papillon.label_space.base_ids, no_papillon.label_space.new_ids) == ((0, 1), (2,))
    listed = open_dataset(contest(tmp_path / "listed", train=TRAIN[:3]))
    assert (listed.label_space.base_ids, listed.label_space.new_ids) == ((0, 1, 2), (3,))


def test_without_training_images_a_test_set_can_be_classified(tmp_path):
    put_lines(tmp_path / "classes.txt", [f"{name} {i}" for i, name in enumerate(BASE)])
    put(tmp_path / "TestSetB" / "image_1.jpg")
    tree = open_dataset(tmp_path)
    assert (tree.train, tree.label_space.base_ids) == ((), (0, 1, 2))
    contest(tmp_path, train=TRAIN)
    (tmp_path / "TrainSet").rename(tmp_path / "elsewhere")
    tree = open_dataset(tmp_path)
    assert (tree.train, tree.label_space.base_ids, tree.label_space.new_ids) == (
        (),
        (0, 1, 2),
        (3,),
    )


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the organisers' class lists")
def test_the_organisers_lists(tmp_path):
    base, both = read_classes(SHARED / "classes.txt"), read_classes(SHARED / "classes_b.txt")
    assert (len(base), len(both)) == (374, 403)
    assert both[373] == "Thu-dog_papillon"
    for name in ("classes.txt", "classes_b.txt"):
        put(tmp_path / name, (SHARED / name).read_bytes())
    put(tmp_path / "train.txt", b"TrainSet/Thu-dog/papillon/1.jpg 373")
    put(tmp_path / "TrainSet/Thu-dog/papillon/1.jpg")
    tree = open_dataset(tmp_path)
    assert tree.label_space.base_ids == tuple(range(374))
    assert tree.label_space.new_ids == tuple(range(374, 403))
    assert {tree.label_space.domains[i] for i in tree.label_space.new_ids} == {"Stanford-Cars"}
    domains = set(tree.label_space.base_ids_by_domain)
    assert domains == {"Animal", "Caltech-101", "Food-101", "Thu-dog"}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda root: (root / "classes.txt").unlink(), "classes.txt: is missing; put"),
        (lambda root: (root / "train.txt").unlink(), "train.txt: is missing; put"),
        (
            lambda root: (root / "TrainSet/Animal/Bee/a b.jpeg").unlink(),
            "train.txt:3: TrainSet/Animal/Bee/a b.jpeg is not on disk",
        ),
        (
            lambda root: put_lines(root / "train.txt", ["TrainSet/Animal/Bear/10.jpg 4"]),
            "train.txt:1: label 4 is out of range; there are 0 to 3",
        ),
        (
            lambda root: put_lines(root / "train.txt", ["TrainSet/Animal/Bear/10.jpg -1"]),
            "train.txt:1: label -1 is out of range",
        ),
        (
            lambda root: put_lines(root / "train.txt", ["TrainSet/Animal/Bear/10.jpg"]),
            "train.txt:1: TrainSet/Animal/Bear/10.jpg has no label",
        ),
        (
            lambda root: put_lines(root / "train.txt", ["TrainSet/Animal/Bear/10.jpg 0"] * 2),
            "train.txt:2: TrainSet/Animal/Bear/10.jpg is in line 1",
        ),
        (
            lambda root: put_lines(root / "train.txt", ["Animal/Bear/10.jpg 0"]),
            "train.txt:1: expected",
        ),
        (
            lambda root: put_lines(root / "classes_b.txt", ["A_a 0", "A_b 1"]),
            "classes_b.txt: must hold all classes of classes.txt",
        ),
    ],
)
def test_wrong_contest_trees(tmp_path, change, cause):
    change(contest(tmp_path))
    assert cause in error(tmp_path)


def test_several_absent_images_are_counted(tmp_path):
    contest(tmp_path)
    for path in (tmp_path / "TrainSet/Animal").rglob("*.*"):
        path.unlink()
    assert "train.txt:1:" in error(tmp_path) and "nor are 2 more" in error(tmp_path)


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    contest(tmp_path)
    for name in ("classes.txt", "train.txt"):
        content = (tmp_path / name).read_bytes().replace(b"\n", b"\r\n")
        put(tmp_path / name, b"\xef\xbb\xbf" + content)
    assert open_dataset(tmp_path).label_space.names == BASE + NEW


def test_junk_is_no_data(tmp_path):
    for name in ("cat/1.jpg", "cat/._1.jpg", "cat/.hidden.png", "cat/Thumbs.db", "cat/notes.txt"):
        put(tmp_path / name)
    for name in ("__MACOSX/1.jpg", ".git/1.jpg", "cat/deeper/2.jpg", "empty/readme.md"):
        put(tmp_path / name)
    tree = open_dataset(tmp_path)
    assert (tree.kind, tree.label_space.names) == ("folders", ("cat",))
    assert [item.name for item in tree.train] == ["cat/1.jpg"]


def test_every_image_suffix_in_any_case(tmp_path):
    suffixes = ("jpg", "JPEG", "Png", "bmp", "webp", "gif", "tif", "TIFF")
    for i, suffix in enumerate(suffixes):
        put(tmp_path / "c" / f"{i}.{suffix}")
    assert len(open_dataset(tmp_path).train) == len(suffixes)


def test_folders_with_splits_beside(tmp_path):
    for name in ("train/dog/1.jpg", "train/cat/2.jpg", "test/cat/3.jpg", "val/ant/4.jpg"):
        put(tmp_path / name)
    tree = open_dataset(tmp_path)
    assert tree.label_space.names == ("cat", "dog", "ant")
    assert (tree.label_space.base_ids, tree.label_space.new_ids) == ((0, 1), (2,))
    assert [(item.name, item.label) for item in tree.train] == [
        ("train/cat/2.jpg", 0),
        ("train/dog/1.jpg", 1),
    ]
    assert [(i.name, i.label) for i in list_test_images(tree, "test")] == [("cat/3.jpg", 0)]
    assert [(i.name, i.label) for i in list_test_images(tree, "val")] == [("ant/4.jpg", 2)]


def test_a_class_called_train(tmp_path):
    for name in ("train/1.jpg", "plane/1.jpg"):  # CIFAR-100 has such a class
        put(tmp_path / name)
    assert open_dataset(tmp_path).label_space.names == ("plane", "train")


def test_no_data_says_what_to_do(tmp_path):
    assert "no such folder" in error(tmp_path / "absent")
    assert "no data set found; expected" in error(tmp_path)


def test_flat_test_set_in_natural_order_without_labels(tmp_path):
    for name in ("image_10.jpg", "image_2.JPEG", "image_1.png", "._image_1.png"):
        put(tmp_path / "TestSetB" / name)
    for split in ("TestSetB", tmp_path / "TestSetB"):
        items = list_test_images(tmp_path, split)
        assert [item.name for item in items] == ["image_1.png", "image_2.JPEG", "image_10.jpg"]
        assert all(item.label is None and item.path.is_file() for item in items)


def test_a_test_set_unpacked_into_its_own_name(tmp_path):
    put(tmp_path / "TestSetB" / "TestSetB" / "image_1.png")
    put(tmp_path / "TestSetB" / "__MACOSX" / "TestSetB" / "._image_1.png")
    assert [item.name for item in list_test_images(tmp_path, "TestSetB")] == ["image_1.png"]


def test_test_folders_keep_equal_names_apart(tmp_path):
    tree = open_dataset(contest(tmp_path))
    for name in ("Animal/Bee/1.jpg", "Animal/Bear/1.jpg", "Animal_Bear/1.jpg", "other/1.jpg"):
        put(tmp_path / "TestSetC" / name)
    items = {item.name: item.label for item in list_test_images(tree, "TestSetC")}
    assert items == {
        "Animal/Bear/1.jpg": 0,
        "Animal/Bee/1.jpg": 1,
        "Animal_Bear/1.jpg": 0,
        "other/1.jpg": None,
    }
    assert {item.label for item in list_test_images(tmp_path, "TestSetC")} == {None}


def test_missing_and_empty_test_sets(tmp_path):
    with pytest.raises(DataError, match=r"TestSetB: no such folder or list .*put the test images"):
        list_test_images(tmp_path, "TestSetB")
    (tmp_path / "TestSetB").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        list_test_images(tmp_path, "TestSetB")


def test_names_that_are_not_utf8(tmp_path):
    raw = b"b\xe9r.jpg"
    try:
        put(Path(os.fsdecode(bytes(tmp_path) + b"/TestSetA/" + raw)))
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    contest(tmp_path)
    put(Path(os.fsdecode(bytes(tmp_path) + b"/TrainSet/Animal/" + raw)))
    put(tmp_path / "train.txt", b"TrainSet/Animal/" + raw + b" 0")
    assert open_dataset(tmp_path).train[0].path.is_file()
    items = list_test_images(tmp_path, "TestSetA")
    assert items[0].path.is_file() and os.fsencode(items[0].name) == raw


def test_order_is_independent_of_the_file_system(tmp_path, monkeypatch):
    for i in range(12):
        put(tmp_path / f"class{i % 3}" / f"{i}.jpg")
    expected = open_dataset(tmp_path)
    real = os.scandir

    class Reversed:
        def __init__(self, folder):
            with real(folder) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert open_dataset(tmp_path) == expected
