"""Drawn splits: stratified, nested, independent of order, stored as files."""

import json

import numpy as np
import pytest

from baselines.datasets.image_sets import ImageSet
from baselines.datasets.splits import read_or_draw_split, stratified_split, subsample
from data.lists import DataError

COUNTS = (50, 33, 7, 2, 1)
LABELS = np.repeat(np.arange(5), COUNTS)
KEYS = tuple(f"c{label}/{i}.png" for label, count in enumerate(COUNTS) for i in range(count))


def image_set(labels=LABELS, keys=KEYS, names=None, source="/data/some"):
    images = np.zeros((len(keys), 2, 2, 3), np.uint8)
    names = names or tuple(f"c{label}" for label in range(5))
    return ImageSet(images, labels, names, tuple(keys), source)


def counts(rows, labels=LABELS):
    return np.bincount(labels[rows], minlength=5).tolist()


def test_shares_of_each_class():
    train, test = stratified_split(LABELS, KEYS, (0.8, 0.2), 0)
    assert counts(train) == [40, 26, 6, 1, 1] and counts(test) == [10, 7, 1, 1, 0]
    assert sorted([*train, *test]) == list(range(len(KEYS)))
    parts = stratified_split(LABELS, KEYS, (0.7, 0.2, 0.1), 0)
    assert [counts(rows) for rows in parts] == [
        [35, 23, 5, 1, 1],
        [10, 7, 1, 1, 0],
        [5, 3, 1, 0, 0],
    ]
    assert sorted(np.concatenate(parts)) == list(range(len(KEYS)))


def test_every_part_gets_of_every_class_that_has_enough():
    labels = np.zeros(5, int)
    parts = stratified_split(labels, KEYS[:5], (0.4, 0.05, 0.55), 0)
    assert [len(rows) for rows in parts] == [2, 1, 2]
    for count in range(1, 40):
        for shares in ((0.9, 0.1), (0.98, 0.01, 0.01), (0.01, 0.49, 0.5)):
            parts = stratified_split(np.zeros(count, int), KEYS[:count], shares, 0)
            assert sum(map(len, parts)) == count
            assert count < len(shares) or all(len(rows) for rows in parts)


def test_numbers_of_each_class():
    labelled, rest = stratified_split(LABELS[:90], KEYS[:90], (4, None), 0)
    assert counts(labelled)[:3] == [4, 4, 4] and len(rest) == 78
    assert not set(labelled) & set(rest)
    more, _ = stratified_split(LABELS[:90], KEYS[:90], (6, None), 0)
    assert set(labelled) < set(more)  # fewer labels are a subset of more
    with pytest.raises(ValueError, match="class 3 has 2 images, the shares take 4"):
        stratified_split(LABELS, KEYS, (4, None), 0)


def test_order_and_other_classes_do_not_matter():
    train, test = stratified_split(LABELS, KEYS, (0.8, 0.2), 3)
    order = np.random.default_rng(0).permutation(len(KEYS))
    shuffled = [KEYS[row] for row in order]
    for rows, others in zip(
        (train, test), stratified_split(LABELS[order], shuffled, (0.8, 0.2), 3), strict=True
    ):
        assert [KEYS[row] for row in rows] == [shuffled[row] for row in others]
    alone, _ = stratified_split(LABELS[50:], KEYS[50:], (0.8, 0.2), 3)
    assert [KEYS[50 + row] for row in alone] == [KEYS[row] for row in train if row >= 50]


def test_the_seed_decides():
    first, again, other = (stratified_split(LABELS, KEYS, (0.8, 0.2), s)[1] for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    drawn = stratified_split(np.zeros(6, int), [f"train/{i}" for i in range(6)], (0.5, 0.5), 0)
    assert [rows.tolist() for rows in drawn] == [
        [0, 1, 5],
        [2, 3, 4],
    ]  # can be drawn again for ever


@pytest.mark.parametrize(
    "shares",
    [
        (),
        (0.5,),
        (0.5, 0.6),
        (0.5, None),
        (1.2, -0.2),
        (4,),
        (4, 4),
        (0, None),
        (None,),
        (True, None),
    ],
)
def test_impossible_shares(shares):
    with pytest.raises(ValueError, match="they must be fractions that sum to 1"):
        stratified_split(LABELS, KEYS, shares, 0)


def test_keys_must_be_one_each():
    for keys in (KEYS[1:], (KEYS[1], *KEYS[1:])):
        with pytest.raises(ValueError, match="each image needs its own key"):
            stratified_split(LABELS, keys, (0.8, 0.2), 0)


def test_subsamples_are_nested_and_stratified():
    whole = image_set()
    shares = (0.01, 0.1, 0.25, 0.5, 0.9, 1.0)
    parts = [subsample(whole, share, 0) for share in shares]
    assert [counts(np.arange(len(p)), p.labels) for p in parts[2:4]] == [
        [13, 8, 2, 1, 1],
        [25, 17, 4, 1, 1],
    ]
    assert len(parts[0]) == 5  # one of each class at least
    for small, large in zip(parts, parts[1:], strict=False):
        assert set(small.keys) < set(large.keys)
    assert parts[-1] is whole
    assert parts[3].keys == tuple(key for key in KEYS if key in set(parts[3].keys))
    assert set(subsample(whole, 0.5, 1).keys) != set(parts[3].keys)
    for share in (0, -1, 1.01, float("nan")):
        with pytest.raises(ValueError, match="data_scale is"):
            subsample(whole, share, 0)


def test_a_split_is_drawn_once_and_kept(tmp_path):
    path, whole = tmp_path / "splits/some.jsonl", image_set()
    drawn = read_or_draw_split(path, whole, seed=5)
    train, val = stratified_split(LABELS, KEYS, (0.8, 0.2), 5)
    assert np.array_equal(drawn["train"], train) and np.array_equal(drawn["val"], val)
    text = path.read_text()
    assert json.loads(text.splitlines()[0]) == {
        "image": "c0/1.png",
        "class": "c0",
        "label": 0,
        "part": "train",
    }
    stored = read_or_draw_split(path, whole, seed=6)  # the file decides
    assert np.array_equal(stored["val"], val) and path.read_text() == text
    order = np.random.default_rng(0).permutation(len(KEYS))
    shuffled = image_set(LABELS[order], [KEYS[row] for row in order])
    again = read_or_draw_split(path, shuffled)
    assert [shuffled.keys[row] for row in again["val"]] == [KEYS[row] for row in val]


def test_four_labels_a_class_as_a_file(tmp_path):
    whole = image_set(LABELS[:90], KEYS[:90])
    rows = read_or_draw_split(tmp_path / "a", whole, (4, None), 0, ("labelled", "unlabelled"))
    assert {part: len(r) for part, r in rows.items()} == {"labelled": 12, "unlabelled": 78}
    with pytest.raises(ValueError, match="2 shares for 1 parts"):
        read_or_draw_split(tmp_path / "b", whole, (4, None), 0, ("labelled",))
    assert not (tmp_path / "b").exists()


def test_splits_of_other_data_are_refused(tmp_path):
    path = tmp_path / "some.jsonl"
    read_or_draw_split(path, image_set())
    fewer = image_set(LABELS[1:], KEYS[1:])
    with pytest.raises(DataError, match=r"some.jsonl:\d+: c0/0.png is no training image of /da"):
        read_or_draw_split(path, fewer)
    other = image_set(names=("c0", "c1", "c2", "c3", "x"))
    with pytest.raises(DataError, match=r"c4/0.png is of class 'x', not 'c4'"):
        read_or_draw_split(path, other)
    moved = image_set(labels=4 - LABELS, names=("c4", "c3", "c2", "c1", "c0"))
    with pytest.raises(DataError, match=r"has label 4, not 0"):
        read_or_draw_split(path, moved)
    with pytest.raises(DataError, match=r'a "part" that is one of labelled, rest'):
        read_or_draw_split(path, image_set(), (4, None), 0, ("labelled", "rest"))
    with pytest.raises(DataError, match="names no image of part 'test'; delete it"):
        read_or_draw_split(path, image_set(), (0.6, 0.2, 0.2), 0, ("train", "val", "test"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(DataError, match="comes twice"):
        read_or_draw_split(path, image_set())
    path.write_text("")
    with pytest.raises(DataError, match="some.jsonl: is empty"):
        read_or_draw_split(path, image_set())
    path.write_text(lines[0][:-10])
    with pytest.raises(DataError, match="some.jsonl:1: expected"):
        read_or_draw_split(path, image_set())
