"""Chunks and shards of a large test set.

A chunk of 64 images is the unit of work that is kept on disk: a stopped run goes on from it. A
shard is the share of the chunks that one machine scores. A chunk is known by the bytes of its
images and by everything else that its predictions depend on. So any shard, machine or run may make
it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.decoding import content_key_or_error
from data.few_shot_dataset import Sample
from fewshot.inference.predictions import ARRAY_FIELDS, Predictions
from runtime.array_files import open_arrays, save_arrays

CHUNK_SIZE = 64  # images; fixed, so that the same images share a chunk whatever the settings


def split_into_chunks(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Returns the samples in their order, CHUNK_SIZE of them per chunk."""
    starts = range(0, len(samples), CHUNK_SIZE)
    return [list(samples[start : start + CHUNK_SIZE]) for start in starts]


def select_shard(chunks: Sequence, shard: str) -> list:
    """Returns every n-th chunk for the shard "i/n", i from 1 to n; all chunks for "".

    Raises ValueError for another text.
    """
    if not shard:
        return list(chunks)
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"shard is {shard!r}; i/n is needed, such as 1/4, 2/4, 3/4 and 4/4")
    return list(chunks[number - 1 :: count])


class ChunkStore:
    """The predictions of chunks under `folder`, in a folder of their own for each setup.

    setup: plain data, hashes for files: all that predictions depend on besides the images.
    """

    def __init__(self, folder: Path, setup: dict):
        digest = hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:16]

    def path(self, chunk: Sequence[Sample]) -> Path:
        """Returns the file of a chunk's predictions; reads the images' bytes."""
        digest = hashlib.sha256()
        for sample in chunk:
            digest.update(content_key_or_error(sample.path).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def save(self, path: Path, predictions: Predictions) -> None:
        """Writes predictions without the images' names, whole or not at all."""
        index_of = {name: index for index, name in enumerate(predictions.names)}
        skipped = [(index_of[name], cause) for name, cause in predictions.skipped]
        record = {"skipped": skipped, "classifiers": list(predictions.top1_among)}
        arrays = {name: getattr(predictions, name) for name in ARRAY_FIELDS}
        arrays |= {f"top1_{id}": best for id, best in predictions.top1_among.items()}
        save_arrays(path, record=np.array(json.dumps(record)), **arrays)

    def load(self, path: Path, names: Sequence[str]) -> Predictions:
        """Reads predictions of images that have these names today."""
        with open_arrays(path) as stored:
            record = json.loads(str(stored["record"]))
            return Predictions(
                names=list(names),
                skipped=[(names[index], cause) for index, cause in record["skipped"]],
                top1_among={id: stored[f"top1_{id}"] for id in record["classifiers"]},
                **{name: stored[name] for name in ARRAY_FIELDS},
            )

    def load_all(self, chunks: Sequence[Sequence[Sample]]) -> Iterator[Predictions]:
        """Yields the predictions of all chunks. Raises ValueError if some are missing."""
        paths = [self.path(chunk) for chunk in chunks]
        missing = [chunk for chunk, path in zip(chunks, paths, strict=True) if not path.exists()]
        if missing:
            images = sum(map(len, missing))
            raise ValueError(
                f"{self.folder}: {images} images in {len(missing)} of {len(chunks)} chunks are "
                f"missing, the first of them {missing[0][0].name}: run the other shards with the "
                "same fields, parts, device and threads and bring their folders here, or leave "
                "--merge out to score now what is missing or has changed"
            )
        for chunk, path in zip(chunks, paths, strict=True):
            yield self.load(path, [sample.name for sample in chunk])
