"""Few-shot splits: the draw, the default path, and the errors of a wrong file."""

import dataclasses
import json
from pathlib import Path

import pytest

from data import few_shot_splits as splits
from data.few_shot_dataset import DataError, FewShotDataset, Sample
from data.few_shot_splits import (
    draw_split,
    find_default_split,
    find_short_classes,
    read_split,
    split_path,
    write_split,
)
from data.label_space import LabelSpace
from scripts import make_split


def make_tree(counts):
    items = [
        Sample(Path(f"/data/{name}/{i}.jpg"), f"{name}/{i}.jpg", label)
        for label, (name, count) in enumerate(counts.items())
        for i in range(count)
    ]
    label_space = LabelSpace.all_base(tuple(counts))
    return FewShotDataset(Path("/data"), "folders", False, label_space, tuple(items))


TREE = make_tree({"cat": 20, "dog": 30, "eel": 3})


def names(items, label=None):
    return [item.name for item in items if label is None or item.label == label]


def test_counts_and_order():
    split = draw_split(TREE, 4, 1)
    assert [item.label for item in split] == [0] * 4 + [1] * 4 + [2] * 3
    assert split == [item for item in TREE.train if item in split]
    assert find_short_classes(TREE, 4) == {"eel": 3}
    assert find_short_classes(TREE, 3) == {}


def test_the_seed_decides():
    assert draw_split(TREE, 4, 1) == draw_split(TREE, 4, 1)
    assert draw_split(TREE, 4, 1) != draw_split(TREE, 4, 2)
    fixed = ["cat/0.jpg", "cat/14.jpg", "cat/17.jpg", "cat/19.jpg"]
    assert names(draw_split(TREE, 4, 1), 0) == fixed  # a split file can be drawn again for ever


def test_fewer_shots_are_a_subset_of_more():
    assert set(names(draw_split(TREE, 1, 7))) < set(names(draw_split(TREE, 4, 7)))


def test_the_draw_depends_on_no_order_and_no_other_class():
    shuffled = dataclasses.replace(TREE, train=TREE.train[::-1])
    assert set(draw_split(shuffled, 4, 1)) == set(draw_split(TREE, 4, 1))
    alone = make_tree({"dog": 30})
    assert names(draw_split(alone, 4, 1)) == names(draw_split(TREE, 4, 1), 1)


def test_draws_are_spread_evenly():
    tree = make_tree({"cat": 10})
    counts = {item.name: 0 for item in tree.train}
    for seed in range(1000):
        for item in draw_split(tree, 4, seed):
            counts[item.name] += 1
    # 400 expected of each, standard deviation 15.5; five of these for ten images
    assert all(abs(count - 400) < 78 for count in counts.values())


def test_nothing_to_draw_from():
    with pytest.raises(DataError, match="no training images"):
        draw_split(dataclasses.replace(TREE, train=()), 4, 1)
    with pytest.raises(ValueError, match="shots is 0"):
        draw_split(TREE, 0, 1)


def test_write_and_read(tmp_path):
    path = tmp_path / "splits" / "a.jsonl"
    split = draw_split(TREE, 4, 1)
    write_split(path, split, TREE)
    assert read_split(path, TREE) == split
    record = json.loads(path.read_text().splitlines()[0])
    assert record == {"image": "cat/0.jpg", "class": "cat", "label": 0}
    write_split(path, split, TREE)  # the same once more
    with pytest.raises(FileExistsError, match="holds another split"):
        write_split(path, split[1:], TREE)
    assert read_split(path, TREE) == split
    write_split(path, split[1:], TREE, force=True)
    assert read_split(path, TREE) == split[1:]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"image": "cat/99.jpg", "class": "cat", "label": 0}', "cat/99.jpg is no training image"),
        ('{"image": "cat/1.jpg", "class": "dog", "label": 0}', "is of class 'cat', not 'dog'"),
        ('{"image": "cat/1.jpg", "class": "cat", "label": 1}', "has label 0, not 1"),
        ('{"image": "cat/0.jpg", "class": "cat", "label": 0}', "comes twice"),
        ('{"image": "cat/1.jpg", "label": 0}', "expected"),
        ('["cat/1.jpg"]', "expected"),
        ("cat/1.jpg 0", "expected"),
    ],
)
def test_wrong_split_files(tmp_path, line, cause):
    path = tmp_path / "a.jsonl"
    path.write_text('{"image": "cat/0.jpg", "class": "cat", "label": 0}\n' + line)
    with pytest.raises(DataError, match=cause) as caught:
        read_split(path, TREE)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_missing_and_empty_split_files(tmp_path):
    with pytest.raises(DataError, match="make_split"):
        read_split(tmp_path / "a.jsonl", TREE)
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        read_split(tmp_path / "a.jsonl", TREE)


def test_where_splits_stand():
    assert split_path("Dataset").name == "contest_4shot_seed1.jsonl"
    assert split_path("/data/cifar10/", 8, 3).name == "cifar10_8shot_seed3.jsonl"


def test_the_default_split_is_the_one_drawn_then_the_one_tracked(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "SPLITS", tmp_path)
    with pytest.raises(DataError, match="make_split --data a/demo --shots_per_class 4 --seed 1"):
        find_default_split("a/demo")
    for name in ("demo.jsonl", "demo_4shot_seed1.jsonl"):
        (tmp_path / name).touch()
        assert find_default_split("a/demo") == tmp_path / name


def test_the_tool(tmp_path, capsys):
    for i in range(3):
        (tmp_path / "data" / f"c{i}").mkdir(parents=True)
        for j in range(i + 1):
            (tmp_path / "data" / f"c{i}" / f"{j}.jpg").touch()
    command = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "s.jsonl")]
    command += ["--shots_per_class"]
    make_split.main([*command, "2"])
    printed = capsys.readouterr()
    assert "5 images of 3 classes" in printed.out
    assert printed.err == "warning: c0 has 1 of 2 images\n"
    with pytest.raises(SystemExit, match="holds another split"):
        make_split.main([*command, "1"])
    make_split.main([*command, "1", "--force"])
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 3
