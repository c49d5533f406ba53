"""The embedded demo: its parts, its bytes, and that it never touches what is not its own."""

import hashlib
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from data.decoding import decode, load_images
from data.few_shot_dataset import list_test_images, open_dataset
from data.few_shot_splits import SPLITS, draw_split, read_split
from data.lists import read_captions, read_labels
from scripts import make_demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "Dataset" / "demo"
    make_demo.main([str(folder)])
    return folder


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_counts(demo):
    tree = open_dataset(demo)
    assert (tree.kind, tree.nested, len(tree.label_space.names)) == ("contest", False, 10)
    assert (tree.label_space.base_ids, tree.label_space.new_ids) == (tuple(range(7)), (7, 8, 9))
    assert Counter(item.label for item in tree.train) == dict.fromkeys(range(7), 12)

    pairs = read_captions(demo / "captions.jsonl")
    items = list_test_images(tree, "TestSetB")
    assert len(pairs) + len(tree.train) + len(items) == 1797
    assert len(pairs) == 896  # half of each digit, rounded down

    labels = read_labels(demo / "TestSetB_labels.txt")
    assert set(labels) == {item.name for item in items}
    counts = Counter(labels.values())
    assert min(counts[i] for i in tree.label_space.base_ids) >= 75
    assert min(counts[i] for i in tree.label_space.new_ids) >= 90


def test_captions_say_what_is_shown(demo):
    digits = load_digits()
    word_of = {
        make_demo.plain_look(image).tobytes(): make_demo.WORDS[target]
        for image, target in zip(digits.images, digits.target, strict=True)
    }
    used, words = set(), Counter()
    for path, caption in read_captions(demo / "captions.jsonl"):
        word = word_of[decode(path).tobytes()]
        assert word in caption
        words[word] += 1
        used.add(caption.replace(word, "{}"))
    assert used == set(make_demo.CAPTIONS)
    assert set(words) == set(make_demo.WORDS)


def test_no_digit_is_in_two_parts():
    labels = load_digits().target
    parts = make_demo.divide(labels, np.random.default_rng(0))
    rows = np.concatenate(parts)
    assert sorted(rows) == list(range(1797))
    assert len(np.unique(load_digits().data, axis=0)) == 1797  # nor is one there twice
    new = [make_demo.WORDS.index(word) for word in make_demo.NEW]
    assert not np.isin(labels[parts[1]], new).any()


def test_labels_follow_the_images(demo):
    """The nearest class mean of the training images tells most test images' listed class."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    pretrain, train, test = make_demo.divide(digits.target, rng)
    words = [make_demo.WORDS[t] for t in digits.target]
    tree = open_dataset(demo)
    shown = Counter(
        tree.label_space.names[i] for i in read_labels(demo / "TestSetB_labels.txt").values()
    )
    assert shown == Counter(f"Digit_{words[row]}" for row in test)

    def features(items):
        pixels = [
            x for _, x in load_images([i.path for i in items], lambda i: np.asarray(i, float))
        ]
        return np.stack(pixels).reshape(len(items), -1)

    labels = read_labels(demo / "TestSetB_labels.txt")
    items = [
        i for i in list_test_images(tree, "TestSetB") if labels[i.name] in tree.label_space.base_ids
    ]
    centres = features(tree.train).reshape(7, 12, -1).mean(axis=1)
    distance = ((features(items)[:, None] - centres) ** 2).sum(axis=2)
    right = distance.argmin(axis=1) == [labels[item.name] for item in items]
    assert right.mean() > 0.7  # chance is 1/7; labels that belonged elsewhere would give that


def test_numbers_and_suffixes_say_nothing(demo):
    labels = read_labels(demo / "TestSetB_labels.txt")
    names = sorted(labels, key=lambda name: int(name.split("_")[1].split(".")[0]))
    order = np.array([labels[name] for name in names])
    assert names[0].startswith("image_1.") and names[-1].startswith(f"image_{len(names)}.")
    # correlation of 817 pairs has a standard deviation of 0.035 by chance
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.12
    assert (order[1:] == order[:-1]).mean() < 0.2
    for suffix in ("jpg", "jpeg", "png"):
        of_suffix = Counter(labels[name] for name in names if name.endswith(f".{suffix}"))
        assert min(of_suffix[i] for i in range(10)) >= 12


def test_the_contest_looks_unlike_pretraining_and_keeps_the_digit():
    digit = load_digits().images[0]
    plain = np.asarray(make_demo.plain_look(digit)).ravel()
    shown = np.asarray(make_demo.contest_look(digit, np.random.default_rng(0)))
    assert (shown[0, 0] == np.rint(255 * make_demo.PAPER)).all()  # the corner is bare paper
    darkness = shown.mean(axis=2).ravel()
    assert np.corrcoef(plain, darkness)[0, 1] > 0.9  # turned and moved by a pixel at most


def test_the_same_seed_gives_the_same_bytes(demo, tmp_path):
    make_demo.build(tmp_path, 0)
    assert contents(tmp_path) == contents(demo)


def test_another_seed_gives_another_demo():
    labels = load_digits().target
    one, two = (make_demo.divide(labels, np.random.default_rng(seed)) for seed in (0, 1))
    assert [len(part) for part in one] == [len(part) for part in two]
    assert all(set(a) != set(b) for a, b in zip(one, two, strict=True))


def test_the_tracked_split_is_that_of_the_demo(demo):
    tree = open_dataset(demo)
    assert read_split(SPLITS / "demo.jsonl", tree) == draw_split(tree, 4, 1)


def test_a_finished_demo_is_left_alone_and_a_damaged_one_rebuilt(demo, tmp_path, capsys):
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    image = folder / "TrainSet" / "Digit" / "zero" / "1.png"
    os.utime(image, (1, 1))
    make_demo.main([str(folder)])
    assert "is up to date" in capsys.readouterr().out
    assert image.stat().st_mtime == 1
    image.write_bytes(b"damaged")
    (folder / "train.txt").unlink()
    (folder / ".DS_Store").touch()  # a desktop's, no one's loss
    make_demo.main([str(folder)])
    assert contents(folder) == contents(demo)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_users_folder_is_never_touched(tmp_path):
    for name in ("Dataset/classes.txt", "Dataset/TrainSet/Animal/Bear/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(SystemExit, match=r"1.jpg, which is not the demo's \(2 such files\)"):
        make_demo.main([str(tmp_path / "Dataset")])
    with pytest.raises(SystemExit, match="is a file"):
        make_demo.main([str(tmp_path / "Dataset" / "classes.txt")])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["mine.txt", ".mine", "TestSetB/image_9999.jpg", "linked"])
def test_a_file_put_into_the_demo_is_never_lost(demo, tmp_path, name):
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    if name == "linked":
        (folder / name).symlink_to(tmp_path)
    else:
        (folder / name).write_text("mine")
    make_demo.main([str(folder)])  # whole: nothing to write
    with pytest.raises(SystemExit, match=f"{name}, which is not the demo's"):
        make_demo.main([str(folder), "--seed", "1"])
    (folder / "train.txt").write_text("damaged")
    with pytest.raises(SystemExit, match=f"{name}, which is not the demo's"):
        make_demo.main([str(folder)])
    (folder / make_demo.MARKER).write_text("damaged")
    with pytest.raises(SystemExit, match="is not the demo's"):
        make_demo.main([str(folder)])
    assert (folder / "train.txt").read_text() == "damaged"
    assert os.path.lexists(folder / name)


def test_an_empty_folder_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(make_demo, "build", lambda folder, seed: (folder / "a").touch())
    (tmp_path / "demo").mkdir()
    make_demo.main([str(tmp_path / "demo")])
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["a"]


def test_the_marker_lists_every_file(demo):
    files = json.loads((demo / make_demo.MARKER).read_text())["files"]
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents(demo).items()}
    del hashes[make_demo.MARKER]
    assert files == hashes
