"""Reads the text files that name images: image lists, class lists, labels and captions.

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
from weight_files.limits import to_one_line

JSON_SUFFIXES = (".jsonl", ".json")
MAX_BYTES = 1 << 27  # of a list; the contest's list has 10 MB
MAX_LINES = 1 << 21
MAX_JSON_LINE = 1 << 14  # bytes
FIELDS = ("image", "label", "class", "part", "caption")  # a JSON line's other fields are ignored
MAX_DIGITS = 9  # of a label or class id


class DataError(ValueError):
    """The data on disk is not as expected; the message names the file and the remedy.

    The message is one line: text from a file of unknown origin is escaped and cut.
    """

    def __str__(self) -> str:
        return to_one_line(super().__str__(), 1000)


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """Returns the bytes of a file. Raises `DataError` if it is no regular file or too large."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: is a pipe or a device; put a file there")
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DataError(f"{path}: has {status.st_size} bytes; at most {max_bytes} are read")
    return data


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Returns (line number from 1, stripped line) of the lines that are not blank.

    Bytes that are not UTF-8 are decoded as in file names, so that listed names match the disk.
    Raises `DataError` for more than MAX_BYTES or MAX_LINES.
    """
    content = read_file(path, MAX_BYTES)
    if content.count(b"\n") > MAX_LINES:
        raise DataError(f"{path}: has more than {MAX_LINES} lines; split it")
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]


def read_json_lines(
    path: str | Path, check: Callable[[dict], bool], form: str
) -> list[tuple[int, dict]]:
    """Returns (line number, record) of a file with one JSON object per line.

    A record has those of the object's fields that are in FIELDS. Raises `DataError`, which says
    that `form` was expected, for a line that is no such object or that `check` refuses.
    """
    records = []
    for number, line in read_lines(path):
        record = _record(line)
        if record is None or not check(record):
            raise DataError(f"{path}:{number}: expected {form}, found {line[:80]!r}")
        records.append((number, record))
    return records


def _record(line: str) -> dict | None:
    """Returns the known fields of a line that is a JSON object with plain values, else None."""
    try:
        record = json.loads(line) if len(line) <= MAX_JSON_LINE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record = {name: record[name] for name in FIELDS if name in record}
    return record if all(map(_is_plain, record.values())) else None


def _is_plain(value: object) -> bool:
    """Returns whether a value is text, null, or a whole number that is short enough for a label."""
    return isinstance(value, str | None) or type(value) is int and abs(value) < 10**MAX_DIGITS


@dataclass(frozen=True)
class Row:
    """One line of an image list; label and class name are None if the list does not have them."""

    line: int
    image: str
    label: int | None
    class_name: str | None


def _is_row(record: dict) -> bool:
    image, label, name = (record.get(field) for field in ("image", "label", "class"))
    is_label = type(label) in (int, type(None))  # but not JSON's true
    return isinstance(image, str) and is_label and isinstance(name, str | None)


def read_rows(path: str | Path) -> list[Row]:
    """Reads an image list: JSON lines of "image", "label" and "class", or lines "path label".

    A text line is split at its last space, because paths may contain spaces. A line that ends in an
    image's suffix has no label. Labels are numbers if all of the file's are, else class names.
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
    """Returns (line, image, label, class name) of each line of a text list."""
    split = []
    for number, line in read_lines(path):
        parts = [line] if is_image(line.rsplit("/", 1)[-1]) else line.rsplit(maxsplit=1)
        split.append((number, parts[0], parts[1] if len(parts) == 2 else None))
    digits = f"-?[0-9]{{1,{MAX_DIGITS}}}"
    if all(last is None or re.fullmatch(digits, last) for _, _, last in split):
        return [(i, image, None if last is None else int(last), None) for i, image, last in split]
    return [(i, image, None, last) for i, image, last in split]


def read_classes(path: str | Path) -> list[str]:
    """Reads a class list, one "Domain_Name id" per line, and returns the names indexed by id.

    Raises `DataError` for a line of another form, an id or name that comes twice, and a missing id.
    """
    names: dict[int, str] = {}
    first_lines: dict[int | str, int] = {}
    for number, line in read_lines(path):
        name, _, digits = line.rpartition(" ")
        if not name.strip() or not re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", digits):
            raise DataError(f'{path}:{number}: expected "Domain_Name id", found {line[:80]!r}')
        name, class_id = name.strip(), int(digits)
        for key, what in ((class_id, f"id {class_id}"), (name, f"class {name!r}")):
            if key in first_lines:
                raise DataError(f"{path}:{number}: {what} is in line {first_lines[key]} already")
            first_lines[key] = number
        names[class_id] = name
    if not names:
        raise DataError(f'{path}: is empty; expected one "Domain_Name id" per line')
    missing = next((i for i in range(len(names)) if i not in names), None)
    if missing is not None:
        raise DataError(f"{path}: no class has id {missing}; ids run from 0 without a gap")
    return [names[i] for i in range(len(names))]


def read_labels(path: str | Path) -> dict[str, int]:
    """Reads {image name: class id} of a test set from a file of lines "image_1.png 3"."""
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

    The pairs are in the list's order. Image paths are relative to the list's folder. Raises
    `DataError` for a line of another form and for a path that leads out of the folder.
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
        _check_inside(f"{path}:{number}", image)
    return [(path.parent / image, caption) for _, image, caption in pairs]


def _check_inside(where: str, image: str) -> None:
    """Raises `DataError` for a path that leads out of its folder, and for what is no path."""
    if os.path.isabs(image) or ".." in image.split("/") or "\0" in image:
        raise DataError(f"{where}: {image!r} leads out of the data's folder; list paths in it")


def locate_images(path: Path, rows: Sequence[Row], roots: Sequence[Path] = ()) -> list[Path]:
    """Returns the path of each image of a list, below the first of `roots` that has it.

    The default root is the list's folder. Raises `DataError` for an image that comes twice, has no
    image's suffix or is not on disk.
    """
    folders: dict[str, frozenset[str]] = {}

    def exists(folder: str, name: str) -> bool:
        if folder not in folders:  # a question per image is slow on network disks
            folders[folder] = frozenset(os.listdir(folder) if os.path.isdir(folder) else ())
        return name in folders[folder]

    roots = roots or (path.parent,)
    images: list[Path] = []
    missing: list[Row] = []
    first_lines: dict[str, int] = {}
    for row in rows:  # strings are faster than paths, and the contest lists 180,000 images
        line = first_lines.setdefault(row.image, row.line)
        if line != row.line:
            raise DataError(f"{path}:{row.line}: {row.image} is in line {line} already")
        _check_inside(f"{path}:{row.line}", row.image)
        folder, name = os.path.split(row.image)
        if not is_image(name):
            raise DataError(f"{path}:{row.line}: {row.image} has no image's suffix")
        candidates = (os.path.join(root, folder) for root in roots)
        on_disk = next((candidate for candidate in candidates if exists(candidate, name)), None)
        if on_disk is None:
            missing.append(row)
        else:
            images.append(Path(on_disk, name))
    if missing:
        more = f" (nor are {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            f"{path}:{missing[0].line}: {missing[0].image} is not on disk{more}; "
            "unpack the images again or correct the list"
        )
    return images
