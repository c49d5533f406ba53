"""`runtime.table`: alignment, numbers, Markdown."""

import pytest

from runtime.table import table

NAN = float("nan")


def test_numbers_stand_right_and_words_left():
    text = table([("zero-shot", 7.5, 12), ("lora", 61.25, 147456)], ("row", "base", "trainable"))
    assert text.splitlines() == [
        "row         base  trainable",
        "zero-shot   7.50         12",
        "lora       61.25    147,456",
    ]


def test_a_string_that_reads_like_a_number_is_one():
    text = table([("a", "9.50 ± 0.10", "1%"), ("b", "81.20 ± 0.40", "12%")])
    assert text.splitlines() == ["a   9.50 ± 0.10   1%", "b  81.20 ± 0.40  12%"]
    assert table([("2 images", 1), ("10", 2)]).splitlines() == ["2 images  1", "10        2"]


@pytest.mark.parametrize("nothing", [None, NAN])
def test_what_is_missing_is_a_dash_among_numbers(nothing):
    assert table([(12.5,), (nothing,)], digits=1).splitlines() == ["12.5", "   -"]


def test_lines_end_without_spaces():
    assert table([("", "ok", "short"), ("", "", "-> remedy")]) == "  ok  short\n      -> remedy"


def test_markdown():
    text = table([("a|b", 1), ("c", 20)], ("name", "count"), markdown=True)
    assert text.splitlines() == [
        "| name | count |",
        "| --- | ---: |",
        "| a\\|b | 1 |",
        "| c | 20 |",
    ]


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="length"):
        table([(1, 2)], ("one",))
