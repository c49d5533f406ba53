"""Splits of labelled images: drawn by a seed and stored as files; no image is moved.

Within each class, images are ordered by a hash of the seed and their key, and each part takes the
next ones. So a split depends on no order of files, no other class, and no library's random numbers.
N images, C classes.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from baselines.datasets.image_sets import ImageSet
from data.few_shot_dataset import FewShotDataset, Sample
from data.few_shot_splits import read_split
from data.folders import natural_key
from data.label_space import LabelSpace
from data.lists import DataError, read_json_lines
from runtime.distributed import single_process
from runtime.files import atomic_write

Share = float | int | None  # of each class: a fraction, a number of images, or the rest
TEST_SHARES = (0.8, 0.2)  # train and test of a data set without an official split
TEST_SEED = 0  # fixed, so that no run trains on another run's test images


def draw_part(images: ImageSet, part: str) -> ImageSet:
    """Returns the "train" or "test" part, or "all", of a data set without an official split.

    Raises ValueError for another part.
    """
    if part == "all":
        return images
    if part not in ("train", "test"):
        raise ValueError(f"part is {part!r}; {images.source} has train, test and all")
    train, test = stratified_split(images.labels, images.keys, TEST_SHARES, TEST_SEED)
    return images.take(train if part == "train" else test)


def stratified_split(
    labels: np.ndarray, keys: Sequence[str], shares: Sequence[Share], seed: int
) -> list[np.ndarray]:
    """Returns the rows of each part, sorted by key in natural order; no row is in two parts.

    labels: int[N]; keys: N different names. shares: fractions of each class that sum to 1, such as
    (0.8, 0.2); or numbers of images per class and None for the rest, such as (4, None). With
    fractions, every part gets an image of each class that has as many images as there are parts.
    Raises ValueError for other shares, and if a class has too few images.
    """
    labels = np.asarray(labels)
    if len(labels) != len(keys) or len(set(keys)) < len(keys):
        raise ValueError(f"{len(labels)} labels, {len(keys)} keys; each image needs its own key")
    _check_shares(shares)
    parts: list[list[int]] = [[] for _ in shares]
    for label, ranked in _ranked_rows(labels, keys, f"split {seed}").items():
        sizes = _part_sizes(len(ranked), shares, label)
        for part, rows in zip(parts, np.split(ranked, np.cumsum(sizes)[:-1]), strict=True):
            part.extend(rows)
    position = {key: i for i, key in enumerate(sorted(keys, key=natural_key))}
    return [np.array(sorted(part, key=lambda row: position[keys[row]]), int) for part in parts]


def _ranked_rows(labels: np.ndarray, keys: Sequence[str], draw: str) -> dict[int, np.ndarray]:
    """Returns {label: its rows in the drawn order}."""

    def rank(row: int) -> bytes:
        return hashlib.sha256(f"{draw}\0{keys[row]}".encode("utf-8", "surrogateescape")).digest()

    rows: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(int(label), []).append(row)
    return {label: np.array(sorted(rows[label], key=rank)) for label in sorted(rows)}


def _check_shares(shares: Sequence[Share]) -> None:
    if shares and all(isinstance(share, float) for share in shares):
        fractions = [share for share in shares if share is not None]
        valid = min(fractions) > 0 and abs(sum(fractions) - 1) < 1e-9
    else:
        valid = len(shares) > 1 and shares[-1] is None
        valid = valid and all(type(number) is int and number > 0 for number in shares[:-1])
    if not valid:
        raise ValueError(
            f"shares are {tuple(shares)}; they must be fractions that sum to 1, such as (0.8, 0.2),"
            " or numbers of images per class and None for the rest, such as (4, None)"
        )


def _part_sizes(count: int, shares: Sequence[Share], label: int) -> list[int]:
    """Returns how many of a class's `count` images each part takes; they sum to `count`."""
    numbers = [share for share in shares if share is not None]
    if shares[-1] is None:
        fixed = [int(number) for number in numbers]
        if sum(fixed) > count:
            raise ValueError(f"class {label} has {count} images, the shares take {sum(fixed)}")
        return [*fixed, count - sum(fixed)]
    ends = np.floor(np.cumsum(numbers) * count + 0.5 + 1e-9).astype(int)
    sizes = np.diff(ends, prepend=0)
    while count >= len(sizes) and sizes.min() == 0:  # an empty part takes one from the largest
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes.tolist()


def subsample(images: ImageSet, share: float, seed: int) -> ImageSet:
    """Returns a drawn share in (0, 1] of each class, at least one image of it, in their order.

    A smaller share is a subset of a larger one of the same seed. This is the field `data_scale`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"data_scale is {share}; it must be above 0, and at most 1")
    if share == 1:
        return images
    ranked = _ranked_rows(images.labels, images.keys, f"scale {seed}").values()
    drawn = [rows[: max(1, int(share * len(rows) + 0.5 + 1e-9))] for rows in ranked]
    return images.take(np.sort(np.concatenate(drawn)))


def read_or_draw_split(
    path: str | Path,
    images: ImageSet,
    shares: Sequence[Share] = (0.8, 0.2),
    seed: int = 0,
    parts: Sequence[str] = ("train", "val"),
) -> dict[str, np.ndarray]:
    """Returns {part: rows} of the split in the file `path`; draws and writes it if it is missing.

    The file has one JSON line per image: {"image": key, "class": name, "label": 3, "part":
    "train"}. A file that exists decides, whatever `shares` and `seed` are; images that it does not
    name are in no part. Raises `DataError` that names the line if the file is the split of other
    data: unknown keys, other classes or other parts.
    """
    path = Path(path)
    if not path.exists():
        if len(shares) != len(parts):
            raise ValueError(f"{len(shares)} shares for {len(parts)} parts; name each part")
        rows = stratified_split(images.labels, images.keys, shares, seed)
        with single_process():  # each process of the run reads it back
            write_image_split(path, images, dict(zip(parts, rows, strict=True)))
    return read_image_split(path, images, parts)


def write_image_split(path: str | Path, images: ImageSet, rows: dict[str, np.ndarray]) -> None:
    """Writes {part: rows} as one JSON line per image, atomically."""
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
    """Returns {part: rows} of a split's file, in its order; see `read_or_draw_split`."""
    pairs = zip(images.keys, images.labels.tolist(), strict=True)
    source = Path(images.source)
    samples = tuple(Sample(source, key, label) for key, label in pairs)
    label_space = LabelSpace.all_base(images.class_names)
    dataset = FewShotDataset(source, "list", False, label_space, samples)
    named = read_split(path, dataset)
    row_of = {key: row for row, key in enumerate(images.keys)}
    rows: dict[str, list[int]] = {part: [] for part in parts}
    form = f'a "part" that is one of {", ".join(parts)}'
    records = read_json_lines(path, lambda record: record.get("part") in rows, form)
    for sample, (_, record) in zip(named, records, strict=True):
        rows[record["part"]].append(row_of[sample.name])
    for part in parts:
        if not rows[part]:
            raise DataError(f"{path}: names no image of part {part!r}; delete it to draw it again")
    return {part: np.array(rows[part], int) for part in parts}
