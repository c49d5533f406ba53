import json
from pathlib import Path

import numpy as np
import pytest

from fewshot.data import Tree
from fewshot.text import class_vectors, load_templates, sentences_of
from models.lpplusplus_geometry import unit_rows


def tree(kind, *names):
    return Tree(Path("."), kind, False, names, (), tuple(range(len(names))), ())


def test_the_shipped_templates_serve_every_domain():
    templates = load_templates()
    assert templates[""] == ["a photo of a {}."]
    names = ("Thu-dog_golden_retriever", "Stanford-Cars_Audi_R8_2012", "Elsewhere_cup")
    dog, car, other = sentences_of(tree("contest", *names), templates)
    assert all("golden retriever" in text for text in dog) and "dog" in dog[0]
    assert all("Audi R8 2012" in text for text in car)
    assert other == ["a photo of a cup."]


def test_folders_have_no_domain():
    assert sentences_of(tree("folders", "Digit_box"), load_templates()) == [
        ["a photo of a Digit box."]
    ]


@pytest.mark.parametrize("templates", [{"": ["a photo."]}, {"": ["{} {}"]}, {"Animal": ["a {}"]}])
def test_bad_templates_name_their_file(tmp_path, templates):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps(templates))
    with pytest.raises(ValueError, match="templates.json"):
        load_templates(path)


def test_class_vectors_by_hand():
    sentences = np.array([[3.0, 0], [0, 5], [0, -2]], np.float32)
    half = np.sqrt(0.5)
    assert class_vectors(sentences, [2, 1]) == pytest.approx(np.array([[half, half], [0, -1]]))


def test_unit_rows_keep_zero():
    assert unit_rows(np.array([[0.0, 0], [3, 4]])).tolist() == [[0, 0], [0.6, 0.8]]
