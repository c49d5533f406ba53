"""The labelled images that a run may train on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from data.decoding import content_key
from data.few_shot_dataset import DataError, FewShotDataset, Sample
from data.few_shot_splits import (
    SEED,
    SHOTS,
    default_split,
    draw_split,
    read_split,
    split_path,
    write_split,
)
from runtime.distributed import single_process


@dataclass(frozen=True)
class Shots:
    """The N images of a split, ordered by class and content, whatever the order of its lines."""

    paths: list[Path]  # [N]
    keys: list[str]  # [N], of the images' contents
    ids: list[int]  # [N], the classes' own numbers

    @classmethod
    def of(cls, items: list[Sample]) -> "Shots":
        """Raises OSError naming an image that cannot be read."""
        keyed = sorted((item.label, content_key(item.path), item.path) for item in items)
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


def chosen_split(data: Path, split: Path | None, tree: FewShotDataset) -> Path:
    """The split that is named, else the one kept for these data, else one drawn now and kept."""
    if split:
        return split
    try:
        return default_split(data)
    except DataError:
        path = split_path(data)
        with single_process():  # each process that shares the run reads it back
            write_split(path, draw_split(tree, SHOTS, SEED), tree)
        print(f"split: drew {SHOTS} images a class -> {path}; keep it, it is part of your entry")
        return path


def read_shots(data: Path, split: Path | None, tree: FewShotDataset) -> Shots:
    """The shots of the chosen split."""
    return Shots.of(read_split(chosen_split(data, split, tree), tree))
