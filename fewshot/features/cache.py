"""The feature cache: one file of features for each set of inputs and each setup, written once.

An input is known by its content: the hash of an image's bytes, or the sentence itself.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.array_files import open_arrays, save_arrays
from runtime.distributed import barrier, rank, single_process, world_size


@dataclass(frozen=True)
class FeatureTable:
    """Features by the name of their input, and why some inputs have none."""

    names: list[str]  # [N]
    features: np.ndarray  # float32 [N,P,E], P views of each input
    causes: dict[str, str]  # the cause by the name of a broken input

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The features [P,E] of each name."""
        return dict(zip(self.names, self.features, strict=True))


def cache_path(folder: Path, kind: str, key: dict) -> Path:
    """Returns the file of the features that follow from `key`, plain data; `kind` is its prefix."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{kind}-{digest[:32]}.npz"


def store_table(path: Path, table: FeatureTable) -> None:
    """Writes the tables of all ranks, joined in the order of the ranks. Every rank must call it."""
    if world_size() == 1:
        _write(path, table)
        return
    parts = [path.with_suffix(f".{number}.npz") for number in range(world_size())]
    local_part = parts[rank()]  # inside the block the rank is 0
    with single_process():
        _write(local_part, table)
    barrier()
    _write(path, _join([read_table(part) for part in parts]))
    barrier()
    local_part.unlink()


def read_table(path: Path) -> FeatureTable:
    """Reads a file of the cache. Raises ValueError naming it if it is damaged."""
    with open_arrays(path) as stored:
        record = json.loads(str(stored["record"]))
        return FeatureTable(record["names"], stored["features"], record["causes"])


def _join(tables: Iterable[FeatureTable]) -> FeatureTable:
    tables = list(tables)
    filled = [table.features for table in tables if table.names]
    features = np.concatenate(filled) if filled else tables[0].features  # all may be broken
    names = [name for table in tables for name in table.names]
    causes = {name: cause for table in tables for name, cause in table.causes.items()}
    return FeatureTable(names, features, causes)


def _write(path: Path, table: FeatureTable) -> None:
    record = json.dumps({"names": table.names, "causes": table.causes}, sort_keys=True)
    save_arrays(path, features=table.features, record=np.array(record))
