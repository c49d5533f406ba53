"""The negatives file keeps its rules, and mining drops and keeps the right words."""

import json

import numpy as np
import pytest

from fewshot.text.negatives import NEGATIVES, load_negatives, mine_negatives, normalize_name


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# a sample of the contest's class names: the full lists are the organisers'
CLASSES = """Bear Bee Bird Butterfly Camel Caribou Cat Chicken Cow Deer Dolphin Donkey Duck Eagle
Elephant Elk Fish Flamingo Fox Giraffe Goose Hippopotamus Horse Kangaroo Koala Leopard Lion Llama
Monkey Orangutan Otter Owl Panda Peacock Penguin Pig Pigeon Polar_bear Rabbit Raccoon Rhinoceros
Sea_lion Seal Shark Sheep Sparrow Squirrel Swan Tiger Whale Wolf Zebra accordion anchor barrel
binocular camera cannon chair crab cup lamp laptop lobster umbrella watch scissors stapler pyramid
helicopter hedgehog headphone dragonfly beaver saxophone wrench pizza sushi hamburger waffles
papillon pug beagle collie""".split()


def test_file_is_large_plain_and_without_doubles():
    content = json.loads(NEGATIVES.read_text(encoding="ascii"))
    negatives = load_negatives()
    assert len(content["nouns"]) >= 25 and len(negatives["nouns"]) >= 1500
    assert len(negatives["phrases"]) >= 150 and all(
        " " in phrase for phrase in negatives["phrases"]
    )
    assert set(content["near"]) == {"dogs", "cars", "dishes", "animals"}
    assert all(len(words) >= 30 for words in content["near"].values())
    words = [
        normalize_name(word) for kind in ("nouns", "phrases", "near") for word in negatives[kind]
    ]
    assert len(set(words)) == len(words)
    assert not set(words) & {normalize_name(name) for name in CLASSES}


def test_file_has_one_list_a_line_so_that_changes_can_be_read():
    content = json.loads(NEGATIVES.read_text(encoding="ascii"))
    lines = set(NEGATIVES.read_text(encoding="ascii").splitlines())
    for kind in ("nouns", "near"):
        for theme, words in content[kind].items():
            line = f"{json.dumps(theme)}: {json.dumps(words)}"
            assert line in lines or line + "," in lines, theme


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nouns": {}, "phrases": []}, "needs nouns, phrases and near"),
        ({"nouns": {"a": ["Axe"]}, "phrases": [], "near": {}}, "'Axe' must be lower-case"),
        ({"nouns": {"a": ["caf\u00e9"]}, "phrases": [], "near": {}}, "lower-case ASCII"),
        ({"nouns": {"a": ["axe"], "b": ["axe"]}, "phrases": [], "near": {}}, "'axe' occurs twice"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, content, words):
    path = tmp_path / "words.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=words) as error:
        load_negatives(path)
    assert str(path) in str(error.value)


def test_names_are_compared_plainly():
    for name, plain in {
        "Sea_Horses": "sea horse",
        "T-Shirt": "t shirt",
        " cherries": "cherry",
        "glasses": "glass",
        "brushes": "brush",
        "torches": "torch",
        "boxes": "box",
        "glass": "glass",
        "cactus": "cactus",
        "pelvis": "pelvis",
        "axe": "axe",
    }.items():
        assert normalize_name(name) == plain


def at(degrees):
    """Vectors in the plane of the first two axes, at these angles from the only class."""
    angles = np.deg2rad(np.asarray(degrees, float))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_farthest_share_remains_in_the_given_order():
    words = [f"word {letter}" for letter in "abcdefghij"]
    degrees = [50, 90, 20, 70, 60, 30, 85, 40, 35, 25]
    for share, expected in ((0.3, [1, 3, 6]), (0.1, [1]), (0.01, [1]), (1, range(10))):
        mined = mine_negatives(at(degrees), at([0]), words, ["class"], share=share)
        assert mined.tolist() == list(expected)


def test_near_synonyms_equal_names_and_doubles_are_dropped():
    words = ["cats", "kitten", "sea_gull", "Sea-Gulls", "stone", "pebble"]
    degrees = [90, 10, 60, 50, 80, 70]
    mined = mine_negatives(at(degrees), at([0]), words, ["Cat"], share=1)
    assert [words[j] for j in mined] == ["Sea-Gulls", "stone", "pebble"]  # cos 10 degrees is .985
    with_near = mine_negatives(at(degrees), at([0]), words, ["Cat"], share=1, near=0.99)
    assert [words[j] for j in with_near] == ["kitten", "Sea-Gulls", "stone", "pebble"]
    # the share is of what was not dropped: of four allowed words, half
    assert len(mine_negatives(at(degrees), at([0]), words, ["Cat"], share=0.5, near=0.99)) == 2


def test_similarity_is_the_percentile_over_classes():
    classes = np.eye(21)[:20]
    spike, flat = np.eye(21)[:1] + 0.9 * np.eye(21)[20:], np.ones((1, 21))
    vectors = np.concatenate([spike, flat])  # one class very near; all classes a little
    names, ids = ["spike", "flat"], [f"class {k}" for k in range(20)]
    assert mine_negatives(vectors, classes, names, ids, share=0.5).tolist() == [0]
    assert mine_negatives(vectors, classes, names, ids, share=0.5, percentile=100).tolist() == [1]


def test_mining_does_not_depend_on_order_or_length():
    rng = np.random.default_rng(0)
    vectors, classes = rng.standard_normal((200, 16)), rng.standard_normal((9, 16))
    names = [f"word {j % 150}" for j in range(200)]  # some stand twice
    ids = [f"class {k}" for k in range(9)]
    first = {tuple(vectors[j]) for j in mine_negatives(vectors, classes, names, ids)}
    order = rng.permutation(200)
    again = mine_negatives(3 * vectors[order], classes[::-1], [names[j] for j in order], ids[::-1])
    assert {tuple(vectors[order][j]) for j in again} == first and len(first) == 22  # .15 of 150
    assert (np.diff(again) > 0).all()
    with pytest.raises(ValueError, match="one each"):
        mine_negatives(vectors, classes, names[:-1], ids)
