"""The text files that name images: image lists, class lists, labels and captions.

Errors are `DataError` and begin with the file and the line.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.folders import is_image
from weight_files.limits import one_line

JSON_SUFFIXES = (".jsonl", ".json")
MAX_BYTES = 1 << 27  # of a list; the contest's has 10 MB
MAX_LINES = 1 << 21
MAX_JSON_LINE = 1 << 14  # bytes
FIELDS = ("image", "label", "class", "part", "caption")  # all that is kept of a JSON line
MAX_DIGITS = 9  # of a label or class id


class DataError(ValueError):
    """The data on disk is not what was asked for; the message names the file and the remedy.

    It is one line: what a stranger's file brings into it is escaped and cut.
    """

    def __str__(self) -> str:
        return one_line(super().__str__(), 1000)


def read_file(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file that has at most `most`; raises `DataError` for another one."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path}: is a pipe or a device; put a file there")
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise DataError(f"{path}: has {found.st_size} bytes, more than the {most} that are read")
    return data


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with numbers from 1, without white space at their ends.

    Bytes that are not UTF-8 are kept as the file system keeps them, so that listed names match.
    Raises `DataError` for more than MAX_BYTES or MAX_LINES.
    """
    content = read_file(path, MAX_BYTES)
    if content.count(b"\n") > MAX_LINES:
        raise DataError(f"{path}: has more than the {MAX_LINES} lines that are read; split it")
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]


def read_json_lines(
    path: str | Path, check: Callable[[dict], bool], form: str
) -> list[tuple[int, dict]]:
    """One JSON object a line, with line numbers; `check` holds it to `form`, the error's words.

    Of an object, the plain values among FIELDS are kept.
    """
    records = []
    for number, line in read_lines(path):
        record = _record(line)
        if record is None or not check(record):
            raise DataError(f"{path}:{number}: expected {form}, found {line[:80]!r}")
        records.append((number, record))
    return records


def _record(line: str) -> dict | None:
    """The fields of a line that is a JSON object, else None."""
    try:
        record = json.loads(line) if len(line) <= MAX_JSON_LINE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record = {name: record[name] for name in FIELDS if name in record}
    return record if all(map(_is_plain, record.values())) else None


def _is_plain(value: object) -> bool:
    """Whether a value is text, or a number of a label's length."""
    return isinstance(value, str | None) or type(value) is int and abs(value) < 10**MAX_DIGITS


@dataclass(frozen=True)
class Row:
    """One line of an image list; label and class name are None where the list does not say."""

    line: int
    image: str
    label: int | None
    class_name: str | None


def _is_row(record: dict) -> bool:
    label, name = record.get("label"), record.get("class")
    return (
        isinstance(record.get("image"), str)
        and type(label) in (int, type(None))  # JSON's true is no label
        and isinstance(name, str | None)
    )


def read_rows(path: str | Path) -> list[Row]:
    """Reads an image list: JSON lines of "image", "label" and "class", or lines "path label".

    A text line is split at its last space, since paths may hold spaces; one that ends in an image's
    suffix has no label. Labels are numbers where all in the file are, and class names otherwise.
    """
    if Path(path).suffix.lower() in JSON_SUFFIXES:
        form = '{"image": "path"} with a "label" (number), a "class" (name) or both'
        records = read_json_lines(path, _is_row, form)
        split = [(line, r["image"], r.get("label"), r.get("class")) for line, r in records]
    else:
        split = _split_lines(path)
    if not split:
        raise DataError(f"{path}: lists no image")
    return [Row(line, image.removeprefix("./"), label, name) for line, image, label, name in split]


def _split_lines(path: str | Path) -> list[tuple[int, str, int | None, str | None]]:
    """(line, image, label, class name) of a text list."""
    split = []
    for number, line in read_lines(path):
        parts = [line] if is_image(line.rsplit("/", 1)[-1]) else line.rsplit(maxsplit=1)
        split.append((number, parts[0], parts[1] if len(parts) == 2 else None))
    digits = f"-?[0-9]{{1,{MAX_DIGITS}}}"
    if all(last is None or re.fullmatch(digits, last) for _, _, last in split):
        return [(i, image, None if last is None else int(last), None) for i, image, last in split]
    return [(i, image, None, last) for i, image, last in split]


def read_classes(path: str | Path) -> list[str]:
    """Reads a class list, one "Domain_Name id" a line, into names indexed by id.

    Raises `DataError` for a line of another form, an id or name that comes twice, and gaps.
    """
    names: dict[int, str] = {}
    first: dict[int | str, int] = {}
    for number, line in read_lines(path):
        name, _, digits = line.rpartition(" ")
        if not name.strip() or not re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", digits):
            raise DataError(f'{path}:{number}: expected "Domain_Name id", found {line[:80]!r}')
        name, class_id = name.strip(), int(digits)
        for key, what in ((class_id, f"id {class_id}"), (name, f"class {name!r}")):
            if key in first:
                raise DataError(f"{path}:{number}: {what} stands in line {first[key]} already")
            first[key] = number
        names[class_id] = name
    if not names:
        raise DataError(f'{path}: is empty; expected one "Domain_Name id" a line')
    missing = next((i for i in range(len(names)) if i not in names), None)
    if missing is not None:
        raise DataError(f"{path}: no class has id {missing}; ids run from 0 without a gap")
    return [names[i] for i in range(len(names))]


def read_labels(path: str | Path) -> dict[str, int]:
    """Reads the labels of a test set, one "image_1.png 3" a line, into {image name: class id}."""
    labels: dict[str, int] = {}
    for row in read_rows(path):
        if row.label is None or row.label < 0:
            raise DataError(f'{path}:{row.line}: expected "image_1.jpg 3", an image and a class id')
        if row.image in labels:
            raise DataError(f"{path}:{row.line}: {row.image} has a label already")
        labels[row.image] = row.label
    return labels


def read_captions(path: str | Path) -> list[tuple[Path, str]]:
    """Reads (image file, caption) pairs: JSON lines of "image" and "caption", or "image<tab>text".

    Image paths are relative to the list's folder and stay in it. The order is the list's.
    """
    path = Path(path)

    def is_pair(record: dict) -> bool:
        return all(isinstance(record.get(key), str) for key in ("image", "caption"))

    if path.suffix.lower() in JSON_SUFFIXES:
        records = read_json_lines(path, is_pair, '{"image": "path", "caption": "text"}')
        pairs = [(line, record["image"], record["caption"]) for line, record in records]
    else:
        pairs = []
        for number, line in read_lines(path):
            image, _, caption = (part.strip() for part in line.partition("\t"))
            if not caption:
                raise DataError(f"{path}:{number}: expected image, tab, caption: {line[:80]!r}")
            pairs.append((number, image, caption))
    if not pairs:
        raise DataError(f"{path}: lists no image")
    for number, image, _ in pairs:
        _stay_inside(f"{path}:{number}", image)
    return [(path.parent / image, caption) for _, image, caption in pairs]


def _stay_inside(where: str, image: str) -> None:
    """Refuses a path that leads out of the folder it is relative to, and what is no path."""
    if os.path.isabs(image) or ".." in image.split("/") or "\0" in image:
        raise DataError(
            f"{where}: {image!r} leads out of the data's folder; list images by their paths in it"
        )


def place_images(path: Path, rows: Sequence[Row], tops: Sequence[Path] = ()) -> list[Path]:
    """Where each image of a list lies: below the first of `tops` that has it (the list's folder).

    Raises `DataError` for an image that comes twice, has no image's suffix or is not on disk.
    """
    folders: dict[str, frozenset[str]] = {}

    def exists(folder: str, base: str) -> bool:
        if folder not in folders:  # listed once: asking for each image is slow on network disks
            folders[folder] = frozenset(os.listdir(folder) if os.path.isdir(folder) else ())
        return base in folders[folder]

    above = [str(top) for top in tops or (path.parent,)]
    places: list[Path] = []
    absent: list[Row] = []
    first: dict[str, int] = {}
    for row in rows:  # strings, not paths: a contest lists 180,000 images
        if first.setdefault(row.image, row.line) != row.line:
            line = first[row.image]
            raise DataError(f"{path}:{row.line}: {row.image} stands in line {line} already")
        _stay_inside(f"{path}:{row.line}", row.image)
        folder, base = os.path.split(row.image)
        if not is_image(base):
            raise DataError(f"{path}:{row.line}: {row.image} has no image's suffix")
        candidates = (os.path.join(top, folder) for top in above)
        place = next((found for found in candidates if exists(found, base)), None)
        if place is None:
            absent.append(row)
        else:
            places.append(Path(place, base))
    if absent:
        more = f" (nor are {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(
            f"{path}:{absent[0].line}: {absent[0].image} is not on disk{more}; "
            "unpack the images again or correct the list"
        )
    return places
