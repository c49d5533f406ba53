"""Image lists, class lists, labels and captions, right and wrong."""

import json

import pytest

from data import lists
from data.few_shot_dataset import DataError, list_test_images, open_dataset
from data.lists import read_captions, read_classes, read_labels


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_lines(path, lines):
    put(path, "\n".join(lines).encode())


def error(root):
    with pytest.raises(DataError) as caught:
        open_dataset(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["A_a 0", "A_b 0"], "classes.txt:2: id 0 is in line 1"),
        (["A_a 0", "A_a 1"], "classes.txt:2: class 'A_a' is in line 1"),
        (["A_a 0", "A_b 2"], "classes.txt: no class has id 1"),
        (["A_a 0", "A_b"], "classes.txt:2: expected"),
        (["A_a -1"], "classes.txt:1: expected"),
        ([], "classes.txt: is empty"),
    ],
)
def test_wrong_class_lists(tmp_path, lines, cause):
    put_lines(tmp_path / "classes.txt", lines)
    put(tmp_path / "TestSetB" / "image_1.jpg")
    assert cause in error(tmp_path)


def test_text_list_splits_at_the_last_space(tmp_path):
    put(tmp_path / "my photos" / "b 1.jpg")
    put(tmp_path / "a.png")
    put_lines(tmp_path / "list.txt", ["my photos/b 1.jpg dog", "./a.png cat"])
    tree = open_dataset(tmp_path / "list.txt")
    assert (tree.kind, tree.root, tree.label_space.names) == ("list", tmp_path, ("cat", "dog"))
    assert [item.name for item in tree.train] == ["a.png", "my photos/b 1.jpg"]
    put_lines(tmp_path / "list.txt", ["my photos/b 1.jpg 1", "a.png 0"])
    assert open_dataset(tmp_path / "list.txt").label_space.names == ("0", "1")
    put_lines(tmp_path / "classes.txt", ["X_cat 0", "X_dog 1", "X_eel 2"])
    tree = open_dataset(tmp_path / "list.txt")
    assert (tree.label_space.names, tree.label_space.new_ids) == (("X_cat", "X_dog", "X_eel"), (2,))


def test_json_list(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    path = tmp_path / "list.jsonl"
    lines = [
        '{"image": "b.png", "label": 0, "class": "x"}',
        '{"image": "a.png", "class": "y", "label": 1}',
    ]
    put_lines(path, lines)
    assert open_dataset(path).label_space.names == ("x", "y")
    put_lines(path, [lines[0], lines[1].replace("1}", "0}")])
    assert "list.jsonl:2: label 0 is 'y' here, 'x' above" in error(path)
    put_lines(path, [lines[0], lines[1].replace("1}", "2}")])
    assert "no image has label 1" in error(path)
    put_lines(path, [lines[0], "{broken"])
    assert "list.jsonl:2: expected" in error(path)
    put_lines(path, ['{"image": "b.png", "label": true}'])
    assert "list.jsonl:1: expected" in error(path)
    put_lines(path, ['{"image": "gone.png", "label": 0}'])
    assert "list.jsonl:1: gone.png is not on disk" in error(path)


def test_listed_test_items(tmp_path):
    for name in ("Animal_Bear/1.jpg", "Animal_Bee/1.jpg"):
        put(tmp_path / "train" / name)
    tree = open_dataset(tmp_path)
    for name in ("t/2.jpg", "t/10.jpg", "u/2.jpg"):
        put(tmp_path / name)
    put_lines(tmp_path / "test.txt", ["t/10.jpg", "t/2.jpg"])
    items = list_test_images(tree, "test.txt")
    assert [(item.name, item.label) for item in items] == [("2.jpg", None), ("10.jpg", None)]
    put_lines(tmp_path / "test.txt", ["t/2.jpg Animal_Bee", "u/2.jpg Animal_Bear"])
    items = list_test_images(tree, tmp_path / "test.txt")
    assert [(item.name, item.label) for item in items] == [("t/2.jpg", 1), ("u/2.jpg", 0)]
    put_lines(tmp_path / "test.txt", ["t/2.jpg 2"])
    with pytest.raises(DataError, match=r"test.txt:1: label 2 is no class id"):
        list_test_images(tree, "test.txt")


def test_read_labels(tmp_path):
    path = tmp_path / "labels.txt"
    put_lines(path, ["image_1.png 3", "my image.jpg 10"])
    assert read_labels(path) == {"image_1.png": 3, "my image.jpg": 10}
    for lines, cause in [
        (["image_1.png 3", "image_1.png 4"], "labels.txt:2: image_1.png has a label"),
        (["image_1.png x"], "labels.txt:1: expected"),
        (["image_1.png -1"], "labels.txt:1: expected"),
        (["image_1.png"], "labels.txt:1: expected"),
        ([], "labels.txt: lists no image"),
    ]:
        put_lines(path, lines)
        with pytest.raises(DataError, match=cause):
            read_labels(path)


def test_read_captions(tmp_path):
    put_lines(tmp_path / "c.jsonl", ['{"image": "p/1.png", "caption": "a seven"}'])
    put_lines(tmp_path / "c.tsv", ["p/1.png\ta seven"])
    for name in ("c.jsonl", "c.tsv"):
        assert read_captions(tmp_path / name) == [(tmp_path / "p/1.png", "a seven")]
    put_lines(tmp_path / "c.tsv", ["p/1.png\ta", "p/2.png a"])
    with pytest.raises(DataError, match="c.tsv:2: expected image, tab, caption"):
        read_captions(tmp_path / "c.tsv")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "a\0.png"])
def test_paths_that_lead_out_of_the_data(tmp_path, name):
    put(tmp_path / "data" / "a.png")
    put(tmp_path / "x.png")
    path = tmp_path / "data" / "list.jsonl"
    put_lines(path, [json.dumps({"image": name, "label": 0, "caption": "an x"})])
    assert "list.jsonl:1:" in error(path) and "leads out of the data's folder" in error(path)
    with pytest.raises(DataError, match="list.jsonl:1: .* leads out of the data's folder"):
        read_captions(path)


def test_what_a_list_brings_into_an_error_is_one_line(tmp_path):
    path = tmp_path / "list.jsonl"
    put_lines(path, [json.dumps({"image": "a\n\x1b[2J" + "b" * 5000 + ".png", "label": 0})])
    assert r"a\n\x1b[2Jbbb" in error(path) and len(error(path)) < 1100


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"image": "a.png", "label": 12345678901}',
        '{"image": "a.png", "label": 0, "class": ["x"]}',
        '{"image": "a.png", "label": 0, "more": "' + "x" * 20_000 + '"}',
    ],
)
def test_json_lines_beyond_all_measure(tmp_path, line):
    put_lines(tmp_path / "list.jsonl", [line])
    assert "list.jsonl:1: expected" in error(tmp_path / "list.jsonl")


def test_numbers_of_thousands_of_digits_are_no_labels(tmp_path):
    for reader in (read_labels, read_classes):
        put_lines(tmp_path / "list.txt", ["a.png " + "9" * 5000])
        with pytest.raises(DataError, match="list.txt:1: expected"):
            reader(tmp_path / "list.txt")


def test_lists_of_too_many_lines_and_bytes(tmp_path, monkeypatch):
    put_lines(tmp_path / "list.txt", ["a.png 0"] * 5)
    monkeypatch.setattr(lists, "MAX_LINES", 3)
    assert "list.txt: has more than 3 lines" in error(tmp_path / "list.txt")
    monkeypatch.setattr(lists, "MAX_BYTES", 20)
    assert "list.txt: has 39 bytes; at most 20" in error(tmp_path / "list.txt")
