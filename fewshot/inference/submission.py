"""The result file: one line an image, its name and five class ids, best first.

    image_1.jpg 371 332 350 358 360

Single spaces, "\\n" ends every line, and the leaderboard takes a zip that holds `result.txt`. Where
there are fewer than five classes, a line ranks all of them.
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

TOP = 5  # ids a line
MEMBER = "result.txt"  # the zip's only file
MAX_BYTES = 1 << 26  # of a result; the contest's has 1 MB
MAX_LINE = 1 << 13  # characters


def ids_a_line(num_classes: int) -> int:
    """How many class ids a line holds."""
    return min(TOP, num_classes)


def top5(scores: np.ndarray) -> np.ndarray:
    """The five best class ids[N,5] of scores[N,C], best first; of equal scores the smaller id.

    [N,C] of fewer classes. Raises ValueError for scores of another shape, and NaN.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.dtype.kind not in "fiu":
        raise ValueError(f"scores are {scores.dtype}{list(scores.shape)}, not numbers[N,C]")
    bad = np.flatnonzero(np.isnan(scores).any(axis=1))
    if bad.size:
        raise ValueError(f"scores of row {bad[0]} are NaN ({bad.size} such rows of {len(scores)})")
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :TOP]  # [N,5]


def require_names(where: str, names: Sequence[str]) -> frozenset[str]:
    """The image names as a set. Raises ValueError for what no result could hold: a name twice,
    line ends or blanks at a name's ends or in a row, no name at all.
    """
    if not names:
        raise ValueError(f"{where}: there are no test images")
    expected = frozenset(names)
    for name in expected:
        if not name or name != name.strip() or re.search(r"[\r\n\t]|  ", name):
            raise DataError(f"{where}: {name!r} cannot stand in a result: rename it")
    if len(expected) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{where}: {twice} is given twice as a test image")
    return expected


def write(path: str | Path, names: Sequence[str], ids: np.ndarray, num_classes: int) -> None:
    """Writes ids[N,5], of fewer classes ids[N,C], under the image names, in order, atomically.

    Raises ValueError where names or ids would not make a valid file; nothing is written then.
    """
    names, ids = list(names), np.asarray(ids)
    count = ids_a_line(num_classes)
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
    """Holds a result file to its form: exactly these images in this order, five ids
    each, of fewer classes all. Raises ValueError naming the line and the cause.
    """
    text = read_file(path, MAX_BYTES).decode("utf-8", "surrogateescape")
    _check(str(path), text, names, num_classes)


def zip_result(result: str | Path, archive: str | Path) -> None:
    """Packs a result file for the leaderboard; the same result gives the same bytes."""
    content = Path(result).read_bytes()
    member = zipfile.ZipInfo(MEMBER)  # dated 1980, so that no time of day is in the file
    member.create_system = 3  # Unix, whatever this is
    member.external_attr = 0o644 << 16
    with atomic_write(archive, "wb") as file, zipfile.ZipFile(file, "w") as opened:
        opened.writestr(member, content)  # stored: compressed bytes would vary with zlib


def validate_zip(path: str | Path, names: Sequence[str], num_classes: int) -> None:
    """Holds a zip to its form: `result.txt` alone, and that valid. Raises ValueError."""
    try:
        with open_zip(path) as opened:
            members = opened.infolist()
            names_in = [member.filename for member in members]
            if names_in != [MEMBER]:
                raise DataError(f"{path}: holds {names_in}, not {MEMBER} alone")
            if members[0].file_size > MAX_BYTES:
                raise DataError(f"{path}: {MEMBER} has {members[0].file_size} bytes, too many")
            content = read_member(opened, members[0])
    except DataError:
        raise
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None:  # the disk's fault
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
    found: dict[str, int] = {}
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            name = _parse(line, expected, num_classes)
            if name in found:
                raise ValueError(f"{name} stands in line {found[name]} already")
        except ValueError as error:
            raise DataError(f"{where}:{number}: {error}") from None
        found[name] = number
    if rest:
        raise ValueError(
            f"{where}:{len(lines) + 1}: does not end in a newline; the file is cut off"
        )
    _check_order(where, names, list(found))


def _parse(line: str, expected: frozenset[str], num_classes: int) -> str:
    """The line's image; raises ValueError with the cause alone."""
    if not line:
        raise ValueError("is empty")
    if len(line) > MAX_LINE:
        raise ValueError(f"has {len(line)} characters, more than the {MAX_LINE} that are read")
    if line.endswith("\r"):
        raise ValueError("ends in a carriage return (CRLF); lines end in a newline alone")
    if "\t" in line or "  " in line or line != line.strip():
        raise ValueError(f"one space stands between fields and none at the ends: {line!r}")
    words = line.split(" ")
    cuts = range(len(words), 0, -1)  # a name may hold spaces, so the longest one known is meant
    cut = next((i for i in cuts if " ".join(words[:i]) in expected), None)
    if cut is None:
        try:
            line.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8") from None
        raise ValueError(
            f"{' '.join(words[: -ids_a_line(num_classes)]) or words[0]} is no test image"
        )
    name, digits = " ".join(words[:cut]), words[cut:]
    for word in digits:
        if not re.fullmatch("0|[1-9][0-9]*", word):
            raise ValueError(f"{word!r} is no class id: whole numbers, one space between them")
    if len(digits) != (count := ids_a_line(num_classes)):
        raise ValueError(f"{name} has {len(digits)} ids, not {count}")
    for word in digits:
        if len(word) > 9 or int(word) >= num_classes:
            raise ValueError(f"class id {word[:20]} is out of range 0 to {num_classes - 1}")
    if len(set(digits)) < count:
        raise ValueError(f"an id comes twice: {' '.join(digits)}")
    return name


def _check_order(where: str, names: Sequence[str], found: list[str]) -> None:
    missing = set(names) - set(found)
    for number, name in enumerate(names, 1):
        if name in missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(f"{where}:{number}: {name} is missing{more}")
        if found[number - 1] != name:
            cause = f"{found[number - 1]} stands where {name} belongs"
            raise DataError(f"{where}:{number}: {cause}: keep the given order")
