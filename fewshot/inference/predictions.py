"""What was found out about test images: what the result, the table and the report are made from.

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
    base_score: np.ndarray  # float32 [N] log-odds of any base class; NaN: could not be read
    routed_base: np.ndarray  # bool [N]
    inlierness: np.ndarray  # float32 [N,P] of the views; rows sum to 1
    skipped: list[tuple[str, str]]  # (name, cause) of images that could not be read
    picks: dict[str, np.ndarray]  # {way to score: int32 [N,3] best class of each of GROUPS or -1}

    def __len__(self) -> int:
        return len(self.names)


ARRAYS = tuple(
    field.name for field in dataclasses.fields(Predictions) if field.type is np.ndarray
)  # the fields that hold a row an image


def joined(pieces: Sequence[Predictions]) -> Predictions:
    """The pieces one after the other. All must have the same views and ways to score."""
    arrays = {name: np.concatenate([getattr(p, name) for p in pieces]) for name in ARRAYS}
    ways = pieces[0].picks
    return Predictions(
        names=[name for piece in pieces for name in piece.names],
        skipped=[pair for piece in pieces for pair in piece.skipped],
        picks={way: np.concatenate([piece.picks[way] for piece in pieces]) for way in ways},
        **arrays,
    )
