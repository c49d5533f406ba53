"""Templates and sentences of each class, their weights, and class vectors."""

import hashlib
import json

import numpy as np
import pytest

from data.label_space import LabelSpace
from fewshot.text import class_texts as text
from fewshot.text.class_texts import TextConfig, compute_class_vectors, load_texts, weigh_sentences
from fewshot.text.prompt_files import TEMPLATES, load_templates
from models.normalize import unit_rows


@pytest.fixture
def files(tmp_path, monkeypatch):
    """write(name, domain, classes): a file of class texts in the folder that the kit searches."""
    monkeypatch.setattr(text, "CLASS_TEXTS", tmp_path)

    def write(name, domain, classes):
        entries = [
            {"class": key, "name": words, "aliases": [], "superclass": "a kind of thing"}
            | {"sentences": sentences}
            for key, (words, sentences) in classes.items()
        ]
        content = {"domain": domain, "templates": "plain", "size": len(entries), "least": 0}
        path = tmp_path / name
        path.write_text(json.dumps(content | {"classes": entries}))
        return path

    return write


def test_contest_classes_get_their_templates_and_their_sentences():
    names = ("Thu-dog_Shiba_Dog", "Stanford-Cars_Audi_R8_Coupe_2012", "Elsewhere_old_cup")
    texts = load_texts(LabelSpace.all_base(names, has_domains=True), TextConfig())
    assert texts.names == ["Shiba Inu", "2012 Audi R8 Coupe", "old cup"]
    dog, car, other = texts.sentences
    assert dog[0] == "a photo of a Shiba Inu, a breed of dog." and len(dog) > 9
    assert car[0] == "a photo of a 2012 Audi R8 Coupe, a kind of car." and len(car) > 9
    assert other == ["a photo of a old cup."]
    assert set(texts.files) == {"templates.json", "dog.json", "car.json"}
    digest = hashlib.sha256(TEMPLATES.read_bytes()).hexdigest()
    assert texts.files["templates.json"] == digest


def test_other_data_take_the_smallest_file_that_knows_all_classes(files):
    files("large.json", "", {"cat": ("house cat", ["large"]), "dog": ("dog", []), "ox": ("ox", [])})
    files("small.json", "Pets", {"cat": ("cat", ["small"]), "dog": ("dog", [])})
    texts = load_texts(LabelSpace.all_base(["cat", "dog"]), TextConfig())
    assert texts.sentences == [
        ["a photo of a cat.", "small"],
        ["a photo of a dog."],
    ]
    assert texts.names == ["cat", "dog"] and set(texts.files) == {"templates.json", "small.json"}
    unknown = load_texts(LabelSpace.all_base(["cat", "Pets_dog"]), TextConfig())
    assert unknown.sentences == [["a photo of a cat."], ["a photo of a Pets dog."]]
    assert load_texts(LabelSpace.all_base(["cat"]), TextConfig(classes="none")).names == ["cat"]


def test_a_named_file_must_know_every_class(files):
    path = files("own.json", "", {"cat": ("tabby", ["a tabby"])})
    assert load_texts(LabelSpace.all_base(["cat"]), TextConfig(classes=str(path))).names == [
        "tabby"
    ]
    with pytest.raises(ValueError, match="own.json: lacks the class 'cow'"):
        load_texts(LabelSpace.all_base(["cat", "cow"]), TextConfig(classes=str(path)))
    with pytest.raises(ValueError, match="own.json: lacks the class 'A_cow'"):
        load_texts(LabelSpace.all_base(["A_cow"], has_domains=True), TextConfig(classes=str(path)))


def test_another_set_of_templates(files):
    files("own.json", "", {"cat": ("tabby", ["striped"])})
    of_objects = load_texts(LabelSpace.all_base(["cat"]), TextConfig(templates="object"))
    assert of_objects.sentences[0][0] == "a photo of a tabby, a kind of thing."
    ensemble = load_texts(LabelSpace.all_base(["cat"]), TextConfig(templates="ensemble"))
    assert len(ensemble.sentences[0]) == len(load_templates()["ensemble"]) + 1
    nothing = load_texts(LabelSpace.all_base(["dog"]), TextConfig(templates="object"))
    assert nothing.sentences[0] == [
        "a dog in the middle of the picture.",
        *nothing.sentences[0][1:],
    ]
    assert not any("{" in text or " , " in text for text in nothing.sentences[0])
    with pytest.raises(ValueError, match="no set of templates 'plane'; there are domain, plain"):
        load_texts(LabelSpace.all_base(["cat"]), TextConfig(templates="plane"))


def test_templates_and_sentences_share_the_weight(files):
    files("own.json", "", {"cat": ("cat", ["a", "b"]), "dog": ("dog", [])})
    texts = load_texts(LabelSpace.all_base(["cat", "dog"]), TextConfig())
    vectors = np.eye(4)

    def weights(share):
        return weigh_sentences(texts, vectors, TextConfig(share=share))

    cat, dog = weights(0.4)
    assert cat == pytest.approx([0.6, 0.2, 0.2], abs=1e-12) and dog == [1]
    assert weights(0)[0].tolist() == [1, 0, 0] and weights(1)[0].tolist() == [0, 0.5, 0.5]
    with pytest.raises(ValueError, match="share is 1.5"):
        TextConfig(share=1.5)


def test_central_sentences_weigh_more(files):
    files("own.json", "", {"cat": ("cat", ["a", "b", "c"])})
    config = TextConfig(weighting="central")
    texts = load_texts(LabelSpace.all_base(["cat"]), config)
    half = np.sqrt(0.75)
    vectors = np.array(
        [[5, 0], [1, 0], [0.5, half], [0.5, -half]]
    )  # a template; 0, 60, -60 degrees
    (weights,) = weigh_sentences(texts, vectors, config)
    away = np.array([1 / 9, 7 / 9, 7 / 9])  # squared distances to the mean (2/3, 0)
    density = np.exp(-away / 2 / (5 / 9))
    assert weights == pytest.approx(np.array([0.5, *(density / density.sum() / 2)]), abs=1e-12)
    same = weigh_sentences(texts, np.ones((4, 2)), config)[0]
    assert same == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6], abs=1e-12)
    with pytest.raises(ValueError, match="'centre' is none of uniform, central"):
        TextConfig(weighting="centre")


def test_class_vectors_by_hand():
    sentences = np.array([[3.0, 0], [0, 5], [0, -2]], np.float32)
    half = np.sqrt(0.5)
    vectors = compute_class_vectors(sentences, [[0.5, 0.5], [1]])
    assert vectors == pytest.approx(np.array([[half, half], [0, -1]]))
    tilted = compute_class_vectors(sentences, [[0.6, 0.8], [1]])
    assert tilted == pytest.approx(np.array([[0.6, 0.8], [0, -1]]))


def test_unit_rows_keep_zero():
    assert unit_rows(np.array([[0.0, 0], [3, 4]])).tolist() == [[0, 0], [0.6, 0.8]]
