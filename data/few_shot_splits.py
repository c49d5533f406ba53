"""Few-shot splits: the images that are trained on are a tracked file, not a draw at run time."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.decoding import content_key
from data.few_shot_dataset import DataError, FewShotDataset, Sample
from data.lists import read_json_lines
from runtime.distributed import single_process
from runtime.files import atomic_write
from runtime.paths import ROOT

SPLITS = ROOT / "Dataset" / "splits"
SHOTS, SEED = 4, 1  # of the default split


@dataclass(frozen=True)
class Shots:
    """The N images of a split, ordered by class and content, whatever the order of its lines."""

    paths: list[Path]  # [N]
    keys: list[str]  # [N], of the images' contents
    ids: list[int]  # [N], class ids

    @classmethod
    def from_samples(cls, samples: Sequence[Sample]) -> "Shots":
        """Returns the shots of a split. Raises OSError naming an image that cannot be read."""
        keyed = sorted((sample.label, content_key(sample.path), sample.path) for sample in samples)
        ids, keys, paths = zip(*keyed, strict=True)
        return cls(list(paths), list(keys), list(ids))

    @property
    def pairs(self) -> list[list]:
        """[class id, hash of the image] of every shot."""
        return [list(pair) for pair in zip(self.ids, self.keys, strict=True)]

    @property
    def digest(self) -> str:
        """One hash of all pairs."""
        return hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()


def draw_split(dataset: FewShotDataset, shots: int, seed: int) -> list[Sample]:
    """Draws `shots` training images of each class, or all of a class that has fewer.

    The images of a class are ranked by a hash of seed, class name and image name, and the first
    ones are drawn. So the draw does not depend on other classes, on the order of files or on a
    library's random numbers, and fewer shots are a subset of more. The result is sorted as
    `dataset.train` is.
    """
    if shots < 1:
        raise ValueError(f"shots is {shots}; a split needs at least 1 image of each class")
    if not dataset.train:
        raise DataError(f"{dataset.root}: has no training images to draw from")

    def rank(sample: Sample) -> bytes:
        text = "\0".join((str(seed), _class_name(sample, dataset), sample.name))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    groups = _group_by_label(dataset).values()
    drawn = {sample.name for group in groups for sample in sorted(group, key=rank)[:shots]}
    return [sample for sample in dataset.train if sample.name in drawn]


def find_short_classes(dataset: FewShotDataset, shots: int) -> dict[str, int]:
    """Returns {class name: number of training images} of base classes with fewer than `shots`."""
    samples, space = _group_by_label(dataset), dataset.label_space
    counts = {space.names[i]: len(samples.get(i, ())) for i in space.base_ids}
    return {name: count for name, count in counts.items() if count < shots}


def _group_by_label(dataset: FewShotDataset) -> dict[int | None, list[Sample]]:
    samples: dict[int | None, list[Sample]] = {}
    for sample in dataset.train:
        samples.setdefault(sample.label, []).append(sample)
    return samples


def _class_name(sample: Sample, dataset: FewShotDataset) -> str:
    assert sample.label is not None  # the class of a training image is always known
    return dataset.label_space.names[sample.label]


def split_path(data: str | Path, shots: int = SHOTS, seed: int = SEED) -> Path:
    """Returns the path of a data set's split, Dataset/splits/<name>_4shot_seed1.jsonl.

    The name is the folder's or list's, and "contest" for a folder called Dataset.
    """
    path = Path(data).resolve()
    name = path.stem if path.is_file() else path.name
    if name == SPLITS.parent.name:
        name = "contest"
    return SPLITS / f"{name}_{shots}shot_seed{seed}.jsonl"


def find_default_split(data: str | Path) -> Path:
    """Returns the split of 4 shots and seed 1 if it exists, else <name>.jsonl.

    Raises `DataError` with the command that draws a split if there is neither.
    """
    drawn = split_path(data)
    tracked = drawn.with_name(drawn.name.removesuffix(f"_{SHOTS}shot_seed{SEED}.jsonl") + ".jsonl")
    for path in (drawn, tracked):
        if path.is_file():
            return path
    raise DataError(
        f"{drawn}: no such split; draw one with: "
        f"python -m scripts.make_split --data {data} --shots_per_class {SHOTS} --seed {SEED}"
    )


def write_split(
    path: str | Path, samples: Sequence[Sample], dataset: FewShotDataset, force: bool = False
) -> None:
    """Writes one JSON line {"image", "class", "label"} per image, in the order of `samples`.

    A file that holds another split is replaced only with `force`; otherwise FileExistsError is
    raised.
    """
    path = Path(path)
    lines = []
    for sample in samples:
        record = {"image": sample.name, "class": _class_name(sample, dataset)}
        lines.append(json.dumps(record | {"label": sample.label}) + "\n")
    text = "".join(lines)
    if path.exists():
        if path.read_bytes() == text.encode():
            return
        if not force:
            raise FileExistsError(f"{path}: holds another split; name another file, or use --force")
    with atomic_write(path) as file:
        file.write(text)


def _is_split_line(record: dict) -> bool:
    return [type(record.get(name)) for name in ("image", "class", "label")] == [str, str, int]


def read_split(path: str | Path, dataset: FewShotDataset) -> list[Sample]:
    """Returns the training images that a split names, in its order.

    Raises `DataError` naming the line if image, class or label are not those of `dataset`, or an
    image comes twice.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such split; draw one with: python -m scripts.make_split")
    known = {sample.name: sample for sample in dataset.train}
    form = '{"image": "path", "class": "name", "label": 3}'
    samples: dict[str, Sample] = {}
    for line, record in read_json_lines(path, _is_split_line, form):
        where, name, label = f"{path}:{line}", record["image"], record["label"]
        if name not in known:
            raise DataError(f"{where}: {name} is no training image of {dataset.root}; redraw it")
        sample = known[name]
        class_name = _class_name(sample, dataset)
        if record["class"] != class_name:
            raise DataError(f"{where}: {name} is of class {class_name!r}, not {record['class']!r}")
        if label != sample.label:
            raise DataError(f"{where}: {name} has label {sample.label}, not {label}")
        if name in samples:
            raise DataError(f"{where}: {name} comes twice; list each image once")
        samples[name] = sample
    if not samples:
        raise DataError(f"{path}: is empty; draw a split with: python -m scripts.make_split")
    return list(samples.values())


def choose_split(data: Path, split: Path | None, dataset: FewShotDataset) -> Path:
    """Returns `split` if it is given, else the data set's default split, drawn first if needed."""
    if split:
        return split
    try:
        return find_default_split(data)
    except DataError:
        path = split_path(data)
        with single_process():  # every process of the run reads the file back
            write_split(path, draw_split(dataset, SHOTS, SEED), dataset)
        print(f"split: drew {SHOTS} images per class -> {path}; keep it, it is part of your entry")
        return path


def read_shots(data: Path, split: Path | None, dataset: FewShotDataset) -> Shots:
    """Returns the shots of the chosen split."""
    return Shots.from_samples(read_split(choose_split(data, split, dataset), dataset))
