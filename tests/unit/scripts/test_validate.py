"""scripts/validate.py accepts a good file and names what is wrong with a bad one in one line."""

import zipfile

import pytest

from scripts import validate

CONTENT = "image_1.jpg 0 1 2 3 4\nimage_2.jpg 5 4 3 2 1\nimage_10.jpg 1 2 3 4 5\n"
LINES = CONTENT.splitlines(keepends=True)


@pytest.fixture
def check(tmp_path, capsys):
    """check(text) validates it as result.txt and in result.zip; returns the messages, or None."""
    (tmp_path / "classes.txt").write_text("".join(f"Animal_{k} {k}\n" for k in range(6)))
    (tmp_path / "TestSetB").mkdir()
    for number in (1, 2, 10):
        (tmp_path / f"TestSetB/image_{number}.jpg").touch()

    def said(name):
        try:
            validate.main([str(tmp_path / name), "--data", str(tmp_path)])
        except SystemExit as error:
            return str(error.code)
        assert "valid, 3 images" in capsys.readouterr().out
        return None

    def run(text):
        (tmp_path / "result.txt").write_text(text)
        with zipfile.ZipFile(tmp_path / "result.zip", "w") as archive:
            archive.writestr("result.txt", text)
        return said("result.txt"), said("result.zip")

    return run


def test_a_valid_file_is_valid(check):
    assert check(CONTENT) == (None, None)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (LINES[0] + LINES[2], "2: image_2.jpg is missing"),
        (CONTENT + "image_3.jpg 1 2 3 4 5\n", "4: image_3.jpg is no test image"),
        (CONTENT + LINES[1], "4: image_2.jpg is in line 2"),
        (CONTENT.replace("5 4 3 2 1", "5 4 3 2"), "2: image_2.jpg has 4 ids, not 5"),
        (CONTENT.replace("5 4 3 2 1", "5 4 3 2 1 0"), "2: image_2.jpg has 6 ids, not 5"),
        (CONTENT.replace("5 4 3 2 1", "5 4 3 2 5"), "2: an id comes twice: 5 4 3 2 5"),
        (CONTENT.replace("5 4 3 2 1", "5 4 3 2 6"), "2: class id 6 is out of range 0 to 5"),
        (CONTENT.replace("5 4 3 2 1", "5,4,3,2,1"), "2: '5,4,3,2,1' is no class id"),
        (LINES[1] + LINES[0] + LINES[2], "1: image_2.jpg is in the place of image_1.jpg"),
        ("", "is empty; expected 3 lines"),
    ],
)
def test_a_wrong_file_is_one_clear_line(check, text, cause):
    for said in check(text):
        assert said.startswith("validate: ") and cause in said and "\n" not in said
