"""Splits of labelled images, drawn by a seed and kept as files; nothing is moved.

Within each class, images are ranked by a hash of the seed and their key, and a part takes the next
ones of this order. So a draw depends on no order of files, no other class, and no library's random
numbers. N images, C classes.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baselines.datasets.image_sets import ImageSet
from data.few_shot_dataset import DataError, FewShotDataset, Sample
from data.few_shot_splits import read_split
from data.folders import natural_key
from data.label_space import LabelSpace
from data.lists import read_json_lines
from runtime.distributed import single_process
from runtime.files import atomic_write

Share = float | int | None  # of each class: a fraction, a number of images, or all that is left


def stratified_split(
    labels: np.ndarray, keys: Sequence[str], shares: Sequence[Share], seed: int
) -> list[np.ndarray]:
    """The rows of each part, sorted by key in natural order; no row is in two parts.

    labels: int[N]; keys: N different names. shares: fractions of each class that sum to 1, as
    (0.8, 0.2); or numbers of images a class, the last being None for the rest, as (4, None) for
    four labelled images a class. Of a class of at least as many images as there are fractions,
    every part gets one. Raises ValueError for other shares, and naming a class that has too few.
    """
    labels = np.asarray(labels)
    if len(labels) != len(keys) or len(set(keys)) < len(keys):
        raise ValueError(f"{len(labels)} labels, {len(keys)} keys; one key of its own an image")
    _check(shares)
    parts: list[list[int]] = [[] for _ in shares]
    for label, ranked in _ranked(labels, keys, f"split {seed}").items():
        sizes = _sizes(len(ranked), shares, label)
        for part, rows in zip(parts, np.split(ranked, np.cumsum(sizes)[:-1]), strict=True):
            part.extend(rows)
    place = {key: i for i, key in enumerate(sorted(keys, key=natural_key))}
    return [np.array(sorted(part, key=lambda row: place[keys[row]]), int) for part in parts]


def _ranked(labels: np.ndarray, keys: Sequence[str], draw: str) -> dict[int, np.ndarray]:
    """{label: its rows in the drawn order}."""

    def rank(row: int) -> bytes:
        return hashlib.sha256(f"{draw}\0{keys[row]}".encode("utf-8", "surrogateescape")).digest()

    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(int(label), []).append(row)
    return {label: np.array(sorted(rows[label], key=rank)) for label in sorted(rows)}


def _check(shares: Sequence[Share]) -> None:
    fractions = [share for share in shares if isinstance(share, float)]
    if fractions and len(fractions) == len(shares):
        good = min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-9
    else:
        numbers = shares[:-1]
        good = len(shares) > 1 and shares[-1] is None
        good = good and all(type(number) is int and number > 0 for number in numbers)
    if not good:
        raise ValueError(
            f"shares are {tuple(shares)}; they must be fractions that sum to 1, as (0.8, 0.2), or "
            "numbers of images a class and None for the rest, as (4, None)"
        )


def _sizes(count: int, shares: Sequence[Share], label: int) -> list[int]:
    """How many of a class's `count` images each part takes; they sum to `count`."""
    numbers = [share for share in shares if share is not None]
    if shares[-1] is None:
        given = [int(number) for number in numbers]
        if sum(given) > count:
            raise ValueError(f"class {label} has {count} images, the shares take {sum(given)}")
        return [*given, count - sum(given)]
    ends = np.floor(np.cumsum(numbers) * count + 0.5 + 1e-9).astype(int)
    sizes = np.diff(ends, prepend=0)
    while count >= len(sizes) and sizes.min() == 0:  # a part without the class takes one from
        sizes[sizes.argmin()] += 1  # the largest
        sizes[sizes.argmax()] -= 1
    return sizes.tolist()


def scaled(images: ImageSet, share: float, seed: int) -> ImageSet:
    """A drawn share in (0, 1] of each class, at least one image of it: the field `data_scale`.

    A smaller share is a subset of a larger one of the same seed. The order stays.
    """
    if not 0 < share <= 1:
        raise ValueError(f"data_scale is {share}; it must be above 0, and at most 1")
    if share == 1:
        return images
    ranked = _ranked(images.labels, images.keys, f"scale {seed}").values()
    drawn = [rows[: max(1, int(share * len(rows) + 0.5 + 1e-9))] for rows in ranked]
    return images.take(np.sort(np.concatenate(drawn)))


def read_or_draw_split(
    path: str | Path,
    images: ImageSet,
    shares: Sequence[Share] = (0.8, 0.2),
    seed: int = 0,
    parts: Sequence[str] = ("train", "val"),
) -> dict[str, np.ndarray]:
    """{part: rows} of the split in the file `path`, which is drawn and written if not there.

    One JSON line an image, {"image": key, "class": name, "label": 3, "part": "train"}, as
    `data.few_shot_splits` writes them and with the part. A file that is there decides, whatever
    `shares`
    and `seed` say; images it does not name are in no part. Raises `DataError` naming the line where
    it is the split of other data: unknown keys, other classes, other parts.
    """
    path = Path(path)
    if not path.exists():
        if len(shares) != len(parts):
            raise ValueError(f"{len(shares)} shares for {len(parts)} parts; name each part")
        rows = stratified_split(images.labels, images.keys, shares, seed)
        with single_process():  # each process that shares the run reads it back
            write_image_split(path, images, dict(zip(parts, rows, strict=True)))
    return read_image_split(path, images, parts)


def write_image_split(path: str | Path, images: ImageSet, rows: dict[str, np.ndarray]) -> None:
    """Writes {part: rows}, one JSON line an image; the file takes its place whole."""
    lines = []
    for part, numbers in rows.items():
        for row in numbers:
            label = int(images.labels[row])
            record = {"image": images.keys[row], "class": images.class_names[label]}
            lines.append(json.dumps(record | {"label": label, "part": part}) + "\n")
    with atomic_write(path) as file:
        file.write("".join(lines))


def read_image_split(
    path: str | Path, images: ImageSet, parts: Sequence[str]
) -> dict[str, np.ndarray]:
    """{part: rows} of a split's file, in its order; see `read_or_draw_split`."""
    pairs = zip(images.keys, images.labels.tolist(), strict=True)
    source = Path(images.source)
    items = tuple(Sample(source, key, label) for key, label in pairs)
    label_space = LabelSpace.all_base(images.class_names)
    tree = FewShotDataset(source, "list", False, label_space, items)
    named = read_split(path, tree)
    place = {key: row for row, key in enumerate(images.keys)}
    rows: dict[str, list[int]] = {part: [] for part in parts}
    form = f'a "part" that is one of {", ".join(parts)}'
    records = read_json_lines(path, lambda record: record.get("part") in rows, form)
    for item, (_, record) in zip(named, records, strict=True):
        rows[record["part"]].append(place[item.name])
    empty = [part for part in parts if not rows[part]]
    if empty:
        raise DataError(f"{path}: names no image of part {empty[0]!r}; delete it to draw it again")
    return {part: np.array(rows[part], int) for part in parts}
