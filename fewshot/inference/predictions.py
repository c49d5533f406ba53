"""What a test run finds out about images: the result, the tables and the report are made from it.

N images, P views of each.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """N test images in the order of the result."""

    names: list[str]
    ids: np.ndarray  # int32 [N,5] class ids, best first
    probabilities: np.ndarray  # float32 [N,5] of these ids
    ood_log_odds: np.ndarray  # float32 [N], of any base class; NaN: the image could not be read
    routed_to_base: np.ndarray  # bool [N]
    view_weights: np.ndarray  # float32 [N,P]; rows sum to 1
    skipped: list[tuple[str, str]]  # (name, cause) of images that could not be read
    top1_among: dict[str, np.ndarray]  # by classifier: int32 [N,3], as `best_of_groups` returns it

    def __len__(self) -> int:
        return len(self.names)


ARRAY_FIELDS = tuple(
    field.name for field in dataclasses.fields(Predictions) if field.type is np.ndarray
)


def concatenate(chunks: Sequence[Predictions]) -> Predictions:
    """Returns the predictions of all chunks, which have the same views and classifiers."""
    arrays = {name: np.concatenate([getattr(c, name) for c in chunks]) for name in ARRAY_FIELDS}
    classifiers = chunks[0].top1_among
    return Predictions(
        names=[name for chunk in chunks for name in chunk.names],
        skipped=[pair for chunk in chunks for pair in chunk.skipped],
        top1_among={id: np.concatenate([c.top1_among[id] for c in chunks]) for id in classifiers},
        **arrays,
    )
