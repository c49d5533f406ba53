"""The result file: what is written is valid, and every way to be wrong is named with its line."""

import os
import zipfile

import numpy as np
import pytest

from fewshot.inference.submission import top5, validate, validate_zip, write, zip_result

NAMES = ["image_1.jpg", "image_2.jpeg", "image_10.png"]
IDS = np.array([[371, 332, 350, 358, 360], [0, 1, 2, 3, 402], [9, 8, 7, 6, 5]])
CONTENT = """image_1.jpg 371 332 350 358 360
image_2.jpeg 0 1 2 3 402
image_10.png 9 8 7 6 5
"""


def cause(path, *arguments, check=validate):
    with pytest.raises(ValueError) as caught:
        check(path, *(arguments or (NAMES, 403)))
    return str(caught.value).removeprefix(str(path))


def test_write_is_what_validate_takes(tmp_path):
    path = tmp_path / "out" / "result.txt"
    write(path, NAMES, IDS, 403)
    assert path.read_bytes() == CONTENT.encode()
    validate(path, NAMES, 403)
    write(path, np.array(NAMES), IDS.astype(np.int32), 403)
    assert path.read_bytes() == CONTENT.encode()


LINES = CONTENT.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LINES[0] + LINES[2], ":2: image_2.jpeg is missing"),
        (LINES[1], ":1: image_1.jpg is missing (and 1 more)"),
        (CONTENT + "image_3.jpg 1 2 3 4 5\n", ":4: image_3.jpg is no test image"),
        (CONTENT + LINES[1], ":4: image_2.jpeg is in line 2"),
        (CONTENT.replace(" 402", ""), ":2: image_2.jpeg has 4 ids, not 5"),
        (CONTENT.replace(" 402", " 402 7"), ":2: image_2.jpeg has 6 ids, not 5"),
        (CONTENT.replace(" 402", " 1"), ":2: an id comes twice: 0 1 2 3 1"),
        (CONTENT.replace(" 402", " 403"), ":2: class id 403 is out of range 0 to 402"),
        (CONTENT.replace(" 402", " " + "9" * 5000), "is out of range 0 to 402"),
        (CONTENT.replace(" 402", " -1"), ":2: '-1' is no class id"),
        (CONTENT.replace(" 402", " 4.0"), ":2: '4.0' is no class id"),
        (CONTENT.replace(" 402", " 04"), ":2: '04' is no class id"),
        (CONTENT.replace(" 402", " ٤"), ":2: '٤' is no class id"),
        (CONTENT.replace("0 1 2", "0  1 2"), ":2: must have one space"),
        (CONTENT.replace("0 1 2", "0\t1 2"), ":2: must have one space"),
        (CONTENT.replace(" 402", " 402 "), ":2: must have one space"),
        (CONTENT.replace("image_2", " image_2"), ":2: must have one space"),
        (CONTENT.replace("0 1 2", "0,1,2"), ":2: '0,1,2' is no class id"),
        (CONTENT.replace("\n", "\r\n"), ":1: ends in a carriage return (CRLF)"),
        ("", ": is empty; expected 3 lines"),
        ("\n", ":1: is empty"),
        (CONTENT + "\n", ":4: is empty"),
        (CONTENT.replace("\n", "\n\n", 1), ":2: is empty"),
        (CONTENT[:-1], ":3: does not end in a newline"),
        (CONTENT[:-3], ":3: image_10.png has 4 ids"),
        (CONTENT.encode("utf-16"), ":1: is not UTF-8"),
        (CONTENT.replace("image_2", "\xfcmage_2").encode("latin-1"), ":2: is not UTF-8"),
        ("\ufeff" + CONTENT, ":1: \\ufeffimage_1.jpg is no test image"),
        (LINES[1] + LINES[0] + LINES[2], ":1: image_2.jpeg is in the place of image_1.jpg"),
        (CONTENT.replace("image_1.jpg", "TestSetB/image_1.jpg"), "TestSetB/image_1.jpg is no test"),
    ],
)
def test_wrong_files(tmp_path, content, expected):
    path = tmp_path / "result.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = cause(path)
    assert expected in found
    assert found.startswith(expected) or not expected.startswith(":")


def test_few_classes_are_all_ranked(tmp_path):
    ids = top5(np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]]))
    assert ids.tolist() == [[2, 1, 0], [0, 1, 2], [1, 0, 2]]
    path = tmp_path / "result.txt"
    write(path, NAMES, ids, 3)
    validate(path, NAMES, 3)
    assert path.read_text().splitlines()[0] == f"{NAMES[0]} 2 1 0"
    assert cause(path, NAMES, 4).startswith(f":1: {NAMES[0]} has 3 ids, not 4")


@pytest.mark.parametrize(
    ("names", "ids", "num_classes", "expected"),
    [
        (NAMES, IDS[:2], 403, "ids are int64[2, 5], not integers [3,5]"),
        (NAMES, IDS[:, :4], 403, "ids are int64[3, 4]"),
        (NAMES, IDS.astype(float), 403, "ids are float64[3, 5]"),
        (NAMES, IDS, 402, ":2: class id 402 is out of range 0 to 401"),
        (NAMES, IDS - 1, 403, ":2: '-1' is no class id"),
        (NAMES, IDS * 0, 403, ":1: an id comes twice"),
        (NAMES, IDS, 4, "ids are int64[3, 5], not integers [3,4]"),
        (NAMES[:1] * 3, IDS, 403, "called image_1.jpg"),
        (["a\n.jpg", "b", "c"], IDS, 403, "cannot hold the name"),
        (["a  b.jpg", "b", "c"], IDS, 403, "cannot hold the name"),
        ([], IDS[:0], 403, "there are no test images"),
    ],
)
def test_write_refuses_and_keeps_the_old_file(tmp_path, names, ids, num_classes, expected):
    path = tmp_path / "result.txt"
    path.write_text("old")
    assert expected in cause(path, names, ids, num_classes, check=write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.txt"]


def test_names_with_spaces_folders_and_bytes(tmp_path):
    names = ["a.jpg", "a.jpg 1", "my photos/a b.jpg", os.fsdecode(b"\xff.jpg"), "猫.png"]
    ids = np.arange(25).reshape(5, 5)
    path = tmp_path / "result.txt"
    write(path, names, ids, 403)
    validate(path, names, 403)
    assert b"\xff.jpg 15 16" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b" 10 11", b" 11"))
    assert cause(path, names, 403).startswith(":3: my photos/a b.jpg has 4 ids")


def test_top5():
    scores = np.array([[0, 5, 5, 1, 2, 5, -np.inf], [1, 1, 1, 1, 1, 1, np.inf]], np.float32)
    assert top5(scores).tolist() == [[1, 2, 5, 4, 3], [6, 0, 1, 2, 3]]
    assert top5(np.arange(6, dtype=np.uint8)[None]).tolist() == [[5, 4, 3, 2, 1]]
    assert top5(np.zeros((0, 5))).shape == (0, 5)
    for wrong, expected in [
        (np.zeros(5), "not numbers"),
        (np.zeros((1, 5), complex), "not numbers"),
        (np.array([[0.0] * 5, [0, 1, np.nan, 2, 3]]), "row 1 are NaN"),
    ]:
        with pytest.raises(ValueError, match=expected):
            top5(wrong)


def test_zip(tmp_path):
    result, archive = tmp_path / "result.txt", tmp_path / "result.zip"
    write(result, NAMES, IDS, 403)
    zip_result(result, archive)
    first = archive.read_bytes()
    os.utime(result, (1, 1))
    zip_result(result, archive)
    assert archive.read_bytes() == first
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["result.txt"]
        assert opened.read("result.txt") == CONTENT.encode()
    validate_zip(archive, NAMES, 403)
    assert ":result.txt:2: class id 402" in cause(archive, NAMES, 402, check=validate_zip)

    archive.write_bytes(first.replace(b"332", b"333"))
    assert "is no intact zip" in cause(archive, check=validate_zip)
    archive.write_bytes(first[: len(first) // 2])
    assert "is no intact zip" in cause(archive, check=validate_zip)
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("folder/result.txt", CONTENT)
    assert "not result.txt alone" in cause(archive, check=validate_zip)
