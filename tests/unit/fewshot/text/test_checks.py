"""Each check fails on one change to a small set of files that passes all of them."""

import copy
import json
import subprocess
import sys

import pytest

from fewshot.text.checks import blank_names, compute_word_share, find_common_opening
from fewshot.text.negatives import load_negatives
from fewshot.text.prompt_files import PROMPTS, load_templates, read_text_file
from scripts.check_prompts import check

DOGS = {
    "domain": "Thu-dog",
    "templates": "plain",
    "size": 3,
    "least": 2,
    "classes": [
        {
            "class": "Border_collie",
            "name": "Border collie",
            "aliases": [],
            "superclass": "a breed of dog",
            "sentences": [
                "Border collies crouch low.",
                "A white blaze parts this Border collie's face.",
            ],
        },
        {
            "class": "collie",
            "name": "collie",
            "aliases": ["rough collie"],
            "superclass": "a breed of dog",
            "sentences": ["The long nose of a collie.", "On a Rough-Collie the mane is huge."],
        },
        {
            "class": "pug",
            "name": "pug",
            "aliases": [],
            "superclass": "a breed of dog",
            "sentences": [f"Fold {number} lies in a pug's face." for number in range(12)],
        },
    ],
}
FOOD = {
    "domain": "Food-101",
    "templates": "plain",
    "size": 2,
    "least": 1,
    "classes": [
        {
            "class": "hot_dog",
            "name": "hot dog",
            "aliases": [],
            "superclass": "a kind of food",
            "sentences": ["A sausage in a bun makes a hot dog."],
        },
        {
            "class": "steak",
            "name": "steak",
            "aliases": [],
            "contest": False,
            "superclass": "a kind of food",
            "sentences": ["The steak shows grill marks."],
        },
    ],
}
NEGATIVES = {
    "nouns": {"tools": ["hammer"]},
    "phrases": ["rusty tool"],
    "near": {"dogs": ["beagle"]},
}


@pytest.fixture
def problems_after(tmp_path):
    """Returns problems(change): the lines after `change(dogs, food, negatives, templates)`."""

    def problems(change=lambda *_: None) -> list[str]:
        dogs, food, negatives = map(copy.deepcopy, (DOGS, FOOD, NEGATIVES))
        templates = {"plain": ["a photo of a {}."]}
        change(dogs, food, negatives, templates)
        (tmp_path / "classes").mkdir(exist_ok=True)
        contents = {"classes/dog": dogs, "classes/food": food}
        contents |= {"negatives": negatives, "templates": templates}
        for name, content in contents.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        try:
            check(tmp_path)
        except ValueError as error:
            return str(error).replace(f"{tmp_path}/classes/", "").splitlines()
        return []

    return problems


def replace_sentence(dogs, number, sentence):
    dogs["classes"][number]["sentences"][0] = sentence


BROKEN = {
    "a class too few": (
        lambda dogs, *_: dogs["classes"].pop(),
        "dog.json: holds 2 classes, its size says 3",
    ),
    "a sentence too few": (
        lambda dogs, *_: dogs["classes"][1]["sentences"].pop(),
        "dog.json: collie: has 1 sentences, needs 2",
    ),
    "the same sentence": (
        lambda dogs, *_: replace_sentence(dogs, 1, "on a rough collie, the mane is huge"),
        "dog.json: collie: occurs twice, in collie too: 'On a Rough-Collie the mane is huge.'",
    ),
    "77 tokens": (
        lambda dogs, *_: replace_sentence(dogs, 1, "collie" + " so" * 76),
        "dog.json: collie: 79 tokens, CLIP reads 77: 'collie" + " so" * 76 + "'",
    ),
    "a name of 77 tokens": (
        lambda dogs, *_: dogs["classes"][1].update(name="a " * 75 + "collie", aliases=["collie"]),
        "dog.json: collie: its name makes a template longer than 77 tokens",
    ),
    "no name": (
        lambda dogs, *_: replace_sentence(dogs, 1, "The long nose of a collier."),
        "dog.json: collie: names neither the class nor an alias: 'The long nose of a collier.'",
    ),
    "another's name": (
        lambda dogs, *_: replace_sentence(dogs, 0, "Border collies are smaller than a collie."),
        "dog.json: Border_collie: names collie ('collie'): "
        "'Border collies are smaller than a collie.'",
    ),
    "its name inside another's": (
        lambda dogs, *_: replace_sentence(dogs, 1, "A collie has the border-collie's nose."),
        "dog.json: collie: names Border_collie ('border collie'): "
        '"A collie has the border-collie\'s nose."',
    ),
    "a name of another file": (
        lambda dogs, *_: replace_sentence(dogs, 1, "A collie eats hot dogs."),
        "dog.json: collie: names hot_dog ('hot dogs'): 'A collie eats hot dogs.'",
    ),
    "word for word": (
        lambda dogs, *_: replace_sentence(dogs, 1, "Rough collies crouch low!"),
        "dog.json: collie: fits Border_collie word for word: 'Rough collies crouch low!'",
    ),
    "look-alike": (
        lambda dogs, *_: replace_sentence(dogs, 1, "The long nose of \u0430 collie."),
        "dog.json: collie: U+0430 (CYRILLIC SMALL LETTER A), write it in ASCII: "
        "'The long nose of \u0430 collie.'",
    ),
    "look-alike in a template": (
        lambda d, f, n, templates: templates["plain"].append("a photo \u2013 a {}."),
        "templates: plain: U+2013 (EN DASH), write it in ASCII: 'a photo \u2013 a {}.'",
    ),
    "a name twice": (
        lambda dogs, food, *_: (
            food["classes"][0]["aliases"].append("steak frites"),
            dogs["classes"][2]["aliases"].append("steak-frites"),
        ),
        "food.json: hot_dog: 'steak frites' is a name of pug too",
    ),
    "a class twice": (
        lambda dogs, *_: dogs["classes"][1].update({"class": "Border_collie"}),
        "dog.json: Border_collie: occurs twice",
    ),
    "unknown templates": (
        lambda dogs, *_: dogs.update(templates="dogs"),
        "dog.json: there is no set of templates 'dogs'",
    ),
    "a class among the negatives": (
        lambda d, f, negatives, t: negatives["nouns"]["tools"].append("hot dogs"),
        "negatives: nouns: 'hot dogs' names the class hot_dog",
    ),
    "a kind of a class among the negatives": (
        lambda d, f, negatives, t: negatives["phrases"].append("fluffy border collie"),
        "negatives: phrases: 'fluffy border collie' names the class Border_collie",
    ),
    "nearly a class among the negatives": (
        lambda d, f, negatives, t: negatives["near"]["dogs"].append("hot dogg"),
        "negatives: near: 'hot dogg' is close to hot_dog",
    ),
}


def test_what_keeps_the_rules_passes(problems_after):
    assert problems_after() == []


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_can_fail(problems_after, name):
    change, line = BROKEN[name]
    assert problems_after(change) == [line, "1 problems"]


def test_classes_outside_the_contest_may_be_named_in_its_other_files(problems_after):
    assert (
        problems_after(lambda dogs, *_: replace_sentence(dogs, 1, "A collie wants the steak."))
        == []
    )
    line = "food.json: hot_dog: names steak ('steak'): 'This hot dog is no steak.'"
    change = lambda dogs, food, *_: replace_sentence(food, 0, "This hot dog is no steak.")  # noqa: E731
    assert problems_after(change) == [line, "1 problems"]


def many(path, sentences_of) -> "object":
    """A file of 20 classes named by letters, each with sentences_of(number, name)."""
    names = [f"thing {letter}" for letter in "abcdefghijklmnopqrst"]
    classes = [
        {"class": name, "name": name, "aliases": [], "superclass": "a thing"}
        | {"sentences": sentences_of(number, name)}
        for number, name in enumerate(names)
    ]
    header = {"domain": "", "templates": "plain", "size": 20, "least": 1}
    path.write_text(json.dumps(header | {"classes": classes}))
    return path


def test_openings_are_counted_without_class_names(tmp_path):
    def sentences(number, name):
        start = "This is what a" if number < alike else f"{number} {number} {number} {number}"
        return [f"{start} {name} shows number{number}."]

    alike = 3
    path = many(tmp_path / "a.json", sentences)
    assert find_common_opening(read_text_file(path)) == ("this is what a shows", 0.15)
    check(path)
    alike = 4
    with pytest.raises(ValueError, match="20% of the sentences begin with 'this is what a shows'"):
        check(many(tmp_path / "b.json", sentences))


def test_vocabularies_of_siblings_are_compared(tmp_path):
    def sentences(number, name):
        common = " ".join(f"common{n}" for n in range(shared))
        own = " ".join(f"own{number}x{n}" for n in range(10 - shared))
        return [f"{own} {common} {name}"]

    shared = 5
    path = many(tmp_path / "a.json", sentences)
    assert compute_word_share(read_text_file(path)) == 0.5
    check(path)
    shared = 6
    with pytest.raises(ValueError, match="median pair of classes shares 60% of its words"):
        check(many(tmp_path / "b.json", sentences))


def test_own_names_are_blanked_longest_first(problems_after, tmp_path):
    problems_after()
    collie = read_text_file(tmp_path / "classes" / "dog.json").classes[1]
    assert blank_names(collie)[1] == ("on", "a", "{}", "the", "mane", "is", "huge")


def test_the_command_answers_with_its_status(tmp_path):
    path = many(tmp_path / "mine.json", lambda number, name: [f"{name} {number}"])
    command = [sys.executable, "-m", "scripts.check_prompts", "check", str(path)]
    good = subprocess.run(command, capture_output=True, text=True)
    assert good.returncode == 0 and "| `mine.json` | 20 | 20 | 1 |" in good.stdout
    many(path, lambda number, name: [f"{number}"])
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout == ""
    assert "mine.json: thing a: names neither the class nor an alias: '0'" in bad.stderr


def test_a_folder_without_class_texts_is_no_success(problems_after, tmp_path):
    problems_after()
    for path in (tmp_path / "classes").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="classes: holds no file of class texts"):
        check(tmp_path)


def test_what_ships_keeps_the_rules():
    files = {file.path.stem: file for file in check(PROMPTS)}
    contest = [entry for file in files.values() if file.domain for entry in file.classes]
    assert sum(entry.contest for entry in contest) == 403
    assert all(len(entry.sentences) >= 8 for entry in contest)
    sizes = {"cifar10": 10, "cifar100": 100, "caltech101": 102, "tiny_imagenet": 200}
    for name, size in sizes.items():
        assert files[name].size == size and files[name].least >= 4
    sentences = {
        text for file in files.values() for entry in file.classes for text in entry.sentences
    }
    assert len(sentences) >= 403 * 8 + 4 * sum(sizes.values())
    assert len(load_templates()["ensemble"]) >= 80
    negatives = load_negatives()
    assert len(negatives["nouns"]) >= 1500 and len(negatives["phrases"]) >= 150
