"""The result file: one line per image, with its name and five class ids, best first.

    image_1.jpg 371 332 350 358 360

Fields are separated by single spaces, and "\\n" ends every line. If there are fewer than five
classes, a line ranks all of them. The leaderboard takes a zip that holds `result.txt`.

N images, C classes.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.lists import DataError, read_file
from runtime.files import atomic_write
from weight_files.zip_files import ZIP_ERRORS, open_zip, read_member

TOP = 5  # ids per line
MEMBER = "result.txt"  # the zip's only file
MAX_BYTES = 1 << 26  # of a result; that of the contest has 1 MB
MAX_LINE = 1 << 13  # characters per line


def ids_per_line(num_classes: int) -> int:
    """Returns how many class ids a line holds."""
    return min(TOP, num_classes)


def top5(scores: np.ndarray) -> np.ndarray:
    """Returns the five best class ids[N,5] of scores[N,C], best first; [N,C] if C is below five.

    Of equal scores the smaller id comes first. Raises ValueError for another shape and for NaN.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise ValueError(f"scores are {scores.dtype}{list(scores.shape)}, not numbers[N,C]")
    bad = np.flatnonzero(np.isnan(scores).any(axis=1))
    if bad.size:
        raise ValueError(f"scores of row {bad[0]} are NaN ({bad.size} such rows of {len(scores)})")
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :TOP]  # [N,5]


def require_names(where: str, names: Sequence[str]) -> frozenset[str]:
    """Returns the image names as a set.

    Raises ValueError for what no result can hold: no name at all, and a name that comes twice. It
    also refuses a name with a line end, a tab, two spaces in a row, or spaces at its ends.
    """
    if not names:
        raise ValueError(f"{where}: there are no test images")
    expected = frozenset(names)
    for name in expected:
        if not name or name != name.strip() or re.search(r"[\r\n\t]|  ", name):
            raise DataError(f"{where}: a result cannot hold the name {name!r}: rename the image")
    if len(expected) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{where}: two test images are called {twice}")
    return expected


def write(path: str | Path, names: Sequence[str], ids: np.ndarray, num_classes: int) -> None:
    """Writes ids[N,5] of the named images, in order; ids[N,C] if there are fewer classes.

    Raises ValueError if names or ids would not make a valid file; nothing is written then.
    """
    names, ids = list(names), np.asarray(ids)
    count = ids_per_line(num_classes)
    if ids.shape != (len(names), count) or ids.dtype.kind not in "iu":
        shape = f"{ids.dtype}{list(ids.shape)}"
        raise ValueError(f"{path}: ids are {shape}, not integers [{len(names)},{count}]")
    lines = [
        " ".join((name, *map(str, row))) for name, row in zip(names, ids.tolist(), strict=True)
    ]
    text = "".join(f"{line}\n" for line in lines)
    _check(str(path), text, names, num_classes)
    with atomic_write(path) as file:
        file.write(text)


def validate(path: str | Path, names: Sequence[str], num_classes: int) -> None:
    """Checks that a result file holds exactly these images, in this order, with valid ids.

    Raises ValueError naming the line and the cause.
    """
    text = read_file(path, MAX_BYTES).decode("utf-8", "surrogateescape")
    _check(str(path), text, names, num_classes)


def zip_result(result: str | Path, archive: str | Path) -> None:
    """Packs a result file for the leaderboard; the same result gives the same bytes."""
    content = Path(result).read_bytes()
    member = zipfile.ZipInfo(MEMBER)  # dated 1980, so that no time of day is in the file
    member.create_system = 3  # Unix, also on other systems
    member.external_attr = 0o644 << 16
    with atomic_write(archive, "wb") as file, zipfile.ZipFile(file, "w") as opened:
        opened.writestr(member, content)  # stored: compressed bytes would vary with zlib


def validate_zip(path: str | Path, names: Sequence[str], num_classes: int) -> None:
    """Checks that a zip holds a valid `result.txt` and nothing else. Raises ValueError."""
    try:
        with open_zip(path) as opened:
            members = opened.infolist()
            files = [member.filename for member in members]
            if files != [MEMBER]:
                raise DataError(f"{path}: holds {files}, not {MEMBER} alone")
            if members[0].file_size > MAX_BYTES:
                raise DataError(f"{path}: {MEMBER} has {members[0].file_size} bytes, too many")
            content = read_member(opened, members[0])
    except DataError:
        raise
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None:  # a fault of the disk
            raise
        raise DataError(f"{path}: is no intact zip ({error})") from error
    text = content.decode("utf-8", "surrogateescape")
    _check(f"{path}:{MEMBER}", text, names, num_classes)


def _check(where: str, text: str, names: Sequence[str], num_classes: int) -> None:
    """Raises ValueError with "<where>:<line>: <cause>" unless `text` is a valid result."""
    names = list(names)
    expected = require_names(where, names)
    if not text:
        raise ValueError(f"{where}: is empty; expected {len(names)} lines")
    *lines, rest = text.split("\n")
    line_of: dict[str, int] = {}
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            name = _parse(line, expected, num_classes)
            if name in line_of:
                raise ValueError(f"{name} is in line {line_of[name]} already")
        except ValueError as error:
            raise DataError(f"{where}:{number}: {error}") from None
        line_of[name] = number
    if rest:
        raise ValueError(
            f"{where}:{len(lines) + 1}: does not end in a newline; the file is cut off"
        )
    _check_order(where, names, list(line_of))


def _parse(line: str, expected: frozenset[str], num_classes: int) -> str:
    """Returns the image that a valid line names. Raises ValueError with the cause."""
    if not line:
        raise ValueError("is empty")
    if len(line) > MAX_LINE:
        raise ValueError(f"has {len(line)} characters, more than the {MAX_LINE} that are read")
    if line.endswith("\r"):
        raise ValueError("ends in a carriage return (CRLF); lines must end in a newline alone")
    if "\t" in line or "  " in line or line != line.strip():
        raise ValueError(f"must have one space between fields and none at the ends: {line!r}")
    words = line.split(" ")
    # A name may hold spaces, so the longest known name that the line starts with is taken.
    lengths = range(len(words), 0, -1)
    length = next((n for n in lengths if " ".join(words[:n]) in expected), None)
    if length is None:
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8") from None
        raise ValueError(
            f"{' '.join(words[: -ids_per_line(num_classes)]) or words[0]} is no test image"
        )
    name, digits = " ".join(words[:length]), words[length:]
    for word in digits:
        if not re.fullmatch("0|[1-9][0-9]*", word):
            raise ValueError(
                f"{word!r} is no class id; whole numbers are needed, with one space between them"
            )
    count = ids_per_line(num_classes)
    if len(digits) != count:
        raise ValueError(f"{name} has {len(digits)} ids, not {count}")
    for word in digits:
        if len(word) > 9 or int(word) >= num_classes:
            raise ValueError(f"class id {word[:20]} is out of range 0 to {num_classes - 1}")
    if len(set(digits)) < count:
        raise ValueError(f"an id comes twice: {' '.join(digits)}")
    return name


def _check_order(where: str, names: Sequence[str], lines: list[str]) -> None:
    """Raises ValueError unless the names in `lines` are `names`, in their order."""
    missing = set(names) - set(lines)
    for number, name in enumerate(names, 1):
        if name in missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(f"{where}:{number}: {name} is missing{more}")
        if lines[number - 1] != name:
            cause = f"{lines[number - 1]} is in the place of {name}"
            raise DataError(f"{where}:{number}: {cause}: keep the order of the test images")
