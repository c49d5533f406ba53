"""Features of images as they are, for tests of encoders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.decoding import BrokenImage
from fewshot.features.encoder import CENTRE_VIEW, Encoder, encode_views


def encode_centres(
    encoder: Encoder, paths: Sequence[Path]
) -> tuple[np.ndarray, dict[int, BrokenImage]]:
    """Returns features[N,E] of the centre views, and the broken images by index."""
    (features,), broken = encode_views([encoder], paths, CENTRE_VIEW, lambda: None)
    return features[:, 0], broken
