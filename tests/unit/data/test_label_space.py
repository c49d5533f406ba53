"""The label space: base and new classes, columns, domains and the best of each group."""

import numpy as np

from data.label_space import LabelSpace, split_class_name

NAMES = ("Thu-dog_golden_retriever", "Food_soup", "Thu-dog_papillon", "Cars_Ford_F-150")
SPACE = LabelSpace(NAMES, (0, 2), has_domains=True)


def test_a_contest_name_is_split_at_its_first_underscore():
    name = "Stanford-Cars_Ford_F-150_Regular_Cab_2007"
    assert split_class_name(name) == ("Stanford-Cars", "Ford_F-150_Regular_Cab_2007")
    assert split_class_name("airplane") == ("", "airplane")


def test_names_have_domains_in_the_contest_only():
    assert SPACE.domains == ("Thu-dog", "Food", "Thu-dog", "Cars")
    assert SPACE.keys[0] == "golden_retriever" and SPACE.words[0] == "golden retriever"
    assert SPACE.base_ids_by_domain == {"Thu-dog": [0, 2]}
    folders = LabelSpace.all_base(NAMES)
    assert set(folders.domains) == {""} and folders.keys == NAMES
    assert folders.words[0] == "Thu-dog golden retriever"


def test_columns_are_base_classes_first():
    assert (SPACE.new_ids, SPACE.order, len(SPACE)) == ((1, 3), [0, 2, 1, 3], 4)
    assert SPACE.base_columns([2, 0, 2]).tolist() == [1, 0, 1]
    assert SPACE.is_base(np.array([0, 1, 2, 3])).tolist() == [True, False, True, False]
    assert SPACE.is_new(np.array([0, 1, 2, 3])).tolist() == [False, True, False, True]
    assert SPACE.by_class_id(np.array([[10.0, 12, 11, 13]])).tolist() == [[10, 11, 12, 13]]


def test_the_base_classes_are_those_with_a_shot():
    assert SPACE.with_base(np.array([3, 1, 3])) == LabelSpace(NAMES, (1, 3), has_domains=True)


def test_the_best_of_each_group():
    scores = np.array([[0.1, 0.9, 0.9, 0.2], [0.5, 0.1, 0.2, 0.3]])
    assert SPACE.best_of_groups(scores).tolist() == [[1, 2, 1], [0, 0, 3]]
    assert LabelSpace.all_base(NAMES).best_of_groups(scores).tolist() == [[1, 1, -1], [0, 0, -1]]
