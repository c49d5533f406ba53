"""A large test set in pieces of a fixed size: what a stopped run goes on from, and what several
machines can share out.

A piece is known by the bytes of its images and by everything that its outcome depends on, so it
does not matter which shard, machine or run made it.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.decoding import content_key_or_error
from data.few_shot_dataset import Sample
from engine.array_files import opened_arrays
from fewshot.inference.predictions import ARRAYS, Predictions
from runtime.files import atomic_write

CHUNK_SIZE = 64  # images; fixed, so that the same images share a piece whatever the settings


def split_into_chunks(items: Sequence[Sample]) -> list[list[Sample]]:
    """The items, PIECE at a time, in their order."""
    return [list(items[start : start + CHUNK_SIZE]) for start in range(0, len(items), CHUNK_SIZE)]


def select_shard(pieces: Sequence, shard: str) -> list:
    """Every n-th piece for "i/n", i from 1 to n; all of them for "". Raises ValueError."""
    if not shard:
        return list(pieces)
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"shard is {shard!r}; i/n is needed, such as 1/4, 2/4, 3/4 and 4/4")
    return list(pieces[number - 1 :: count])


class ChunkStore:
    """Outcomes of pieces under `folder`, in one folder for each setup; written whole or not at all.

    setup: plain data, hashes for files: all that an outcome depends on beside the images.
    """

    def __init__(self, folder: Path, setup: dict):
        digest = hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]

    def path(self, piece: Sequence[Sample]) -> Path:
        """Where a piece's outcome lies; reads the images' bytes."""
        digest = hashlib.sha256()
        for item in piece:
            digest.update(content_key_or_error(item.path).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def save(self, path: Path, outcome: Predictions) -> None:
        """Stores an outcome, without the images' names."""
        place = {name: index for index, name in enumerate(outcome.names)}
        skipped = [(place[name], cause) for name, cause in outcome.skipped]
        record = json.dumps({"skipped": skipped, "ways": list(outcome.picks)})
        arrays = {name: getattr(outcome, name) for name in ARRAYS}
        arrays |= {f"picks_{i}": picks for i, picks in enumerate(outcome.picks.values())}
        content = io.BytesIO()  # an archive that meets a full disk complains again when it is freed
        np.savez(content, record=np.array(record), **arrays)
        with atomic_write(path, "wb") as file:
            file.write(content.getbuffer())

    def load(self, path: Path, names: Sequence[str]) -> Predictions:
        """A stored outcome, of images that have these names today."""
        with opened_arrays(path) as stored:
            record = json.loads(str(stored["record"]))
            return Predictions(
                names=list(names),
                skipped=[(names[index], cause) for index, cause in record["skipped"]],
                picks={way: stored[f"picks_{i}"] for i, way in enumerate(record["ways"])},
                **{name: stored[name] for name in ARRAYS},
            )

    def found(self, pieces: Sequence[Sequence[Sample]]) -> Iterator[Predictions]:
        """The outcomes of all pieces. Raises ValueError where some are missing."""
        paths = [self.path(piece) for piece in pieces]
        missing = [piece for piece, path in zip(pieces, paths, strict=True) if not path.exists()]
        if missing:
            images = sum(map(len, missing))
            raise ValueError(
                f"{self.folder}: {images} images in {len(missing)} of {len(pieces)} pieces are "
                f"missing, the first of them {missing[0][0].name}: run the other shards with the "
                "same fields, parts, device and threads and bring their folders here, or leave "
                "--merge out to score now what is missing or has changed"
            )
        for piece, path in zip(pieces, paths, strict=True):
            yield self.load(path, [item.name for item in piece])
