"""Few-shot splits: which images are trained on is data, a tracked file, not a draw at run time."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from data.few_shot_dataset import DataError, FewShotDataset, Sample
from data.lists import read_json_lines
from runtime.files import atomic_write
from runtime.paths import ROOT

SPLITS = ROOT / "Dataset" / "splits"
SHOTS, SEED = 4, 1  # of the split that is used where none is named


def draw_split(tree: FewShotDataset, shots: int, seed: int) -> list[Sample]:
    """Draws `shots` training images of each class, all of a class that has fewer.

    A class's images are ranked by a hash of seed, class name and image name, and the first are
    taken. So the draw depends on no other class, no order of files and no library's random
    numbers, and fewer shots are a subset of more. Sorted as `tree.train` is.
    """

    def rank(item: Sample) -> bytes:
        text = "\0".join((str(seed), tree.label_space.names[_label(item)], item.name))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    if shots < 1:
        raise ValueError(f"shots is {shots}; a split needs at least 1 image of each class")
    if not tree.train:
        raise DataError(f"{tree.root}: has no training images to draw from")
    drawn = {
        item.name
        for images in _by_label(tree).values()
        for item in sorted(images, key=rank)[:shots]
    }
    return [item for item in tree.train if item.name in drawn]


def short_classes(tree: FewShotDataset, shots: int) -> dict[str, int]:
    """{class name: number of training images} of base classes that have fewer than `shots`."""
    images = _by_label(tree)
    counts = {tree.label_space.names[i]: len(images.get(i, ())) for i in tree.label_space.base_ids}
    return {name: count for name, count in counts.items() if count < shots}


def _by_label(tree: FewShotDataset) -> dict[int, list[Sample]]:
    images: dict[int, list[Sample]] = {}
    for item in tree.train:
        images.setdefault(_label(item), []).append(item)
    return images


def _label(item: Sample) -> int:
    assert item.label is not None  # a training image's class is always known
    return item.label


def split_path(data: str | Path, shots: int = SHOTS, seed: int = SEED) -> Path:
    """Where the split of the data at this path stands: Dataset/splits/<name>_4shot_seed1.jsonl.

    The name is the folder's or list's, and "contest" for a folder called Dataset.
    """
    place = Path(data).resolve()
    name = place.stem if place.is_file() else place.name
    name = "contest" if name == SPLITS.parent.name else name
    return SPLITS / f"{name}_{shots}shot_seed{seed}.jsonl"


def default_split(data: str | Path) -> Path:
    """The split used where none is named: that of 4 shots and seed 1, else <name>.jsonl.

    Raises `DataError` with the command that draws one where there is neither.
    """
    drawn = split_path(data)
    tracked = drawn.with_name(drawn.name.removesuffix(f"_{SHOTS}shot_seed{SEED}.jsonl") + ".jsonl")
    for path in (drawn, tracked):
        if path.is_file():
            return path
    raise DataError(
        f"{drawn}: no such split; draw one with: "
        f"python -m scripts.make_split --data {data} --shots {SHOTS} --seed {SEED}"
    )


def write_split(
    path: str | Path, items: Sequence[Sample], tree: FewShotDataset, force: bool = False
) -> None:
    """Writes one JSON line {"image", "class", "label"} an image, in the order given.

    An existing file of other content is replaced only with `force`, else `FileExistsError`.
    """
    path = Path(path)
    lines = []
    for item in items:
        record = {
            "image": item.name,
            "class": tree.label_space.names[_label(item)],
            "label": item.label,
        }
        lines.append(json.dumps(record) + "\n")
    text = "".join(lines)
    if path.exists():
        if path.read_bytes() == text.encode():
            return
        if not force:
            raise FileExistsError(f"{path}: holds another split; name another file, or use --force")
    with atomic_write(path) as file:
        file.write(text)


def _is_split_line(record: dict) -> bool:
    return (
        isinstance(record.get("image"), str)
        and isinstance(record.get("class"), str)
        and type(record.get("label")) is int
    )


def read_split(path: str | Path, tree: FewShotDataset) -> list[Sample]:
    """The training images that a split names, in its order.

    Raises `DataError` naming the line where image, class or label are not those of `tree`, or an
    image comes twice.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such split; scripts/make_split.py draws one")
    known = {item.name: item for item in tree.train}
    form = '{"image": "path", "class": "name", "label": 3}'
    items: dict[str, Sample] = {}
    for line, record in read_json_lines(path, _is_split_line, form):
        where, name, label = f"{path}:{line}", record["image"], record["label"]
        if name not in known:
            raise DataError(
                f"{where}: {name} is no training image of {tree.root}; redraw the split"
            )
        item = known[name]
        truth = tree.label_space.names[_label(item)]
        if record["class"] != truth:
            raise DataError(f"{where}: {name} is of class {truth!r}, not {record['class']!r}")
        if label != item.label:
            raise DataError(f"{where}: {name} has label {item.label}, not {label}")
        if name in items:
            raise DataError(f"{where}: {name} comes twice; each image is one shot")
        items[name] = item
    if not items:
        raise DataError(f"{path}: is empty; scripts/make_split.py draws a split")
    return list(items.values())
