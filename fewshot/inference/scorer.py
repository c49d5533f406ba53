"""From the paths of test images to predictions: views, their aggregate, routing, scores.

Each image is scored by itself. N images, P views of each, E embedding, W width of the auxiliary
features.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

import runtime
from data.views import Views
from engine.device import precision_in_use
from engine.plain_data import to_plain
from fewshot.features.encoder import Encoder, code_version, encode_views
from fewshot.inference import mta
from fewshot.inference.classifiers import ENSEMBLE
from fewshot.inference.ensemble import Ensemble, Features
from fewshot.inference.predictions import Predictions
from fewshot.inference.routing import class_scores
from fewshot.inference.submission import top5
from fewshot.stages.ood_log_odds import ood_log_odds
from fewshot.stages.parts import Parts
from models.normalize import unit_rows


@dataclass(frozen=True)
class InferenceConfig:
    """How test images are seen and routed."""

    tta: str  # one of `mta.METHODS`
    views: Views
    ood: str  # one of `ood_log_odds.FILTERS`
    routing: str  # one of `classifiers.ROUTINGS`


@dataclass(frozen=True)
class Encoders:
    """The networks that images go through."""

    plain: Encoder  # CLIP as it came
    tuned: Encoder  # CLIP with LoRA merged
    auxiliary: Encoder | None = None

    def __iter__(self) -> Iterator[Encoder]:
        encoders = (self.plain, self.tuned, self.auxiliary)
        return (encoder for encoder in encoders if encoder is not None)


class Scorer:
    """Classifies images with trained parts. `seconds` adds up where the time goes."""

    def __init__(self, encoders: Encoders, parts: Parts, config: InferenceConfig):
        self.encoders, self.parts, self.config = encoders, parts, config
        self.ensemble = Ensemble(parts)
        self.label_space = parts.text.label_space
        self.threshold = parts.ood.thresholds[config.ood]
        self.seconds: dict[str, float] = defaultdict(float)

    def setup(self) -> dict:
        """Returns plain data: all that predictions depend on besides the images."""
        return {
            "parts": self.parts.hashes,
            "encoders": [encoder.weights_sha256 for encoder in self.encoders],
            "config": to_plain(self.config),
            "device": [self.encoders.plain.device, precision_in_use(), runtime.PREPARED.threads],
            "code": code_version(__name__),
        }

    def __call__(
        self, names: Sequence[str], paths: Sequence[Path], on_image: Callable = lambda: None
    ) -> Predictions:
        """Returns the predictions of images; `on_image()` is called after each one is decoded."""
        started = monotonic()
        views, broken = encode_views(list(self.encoders), paths, self.config.views, on_image)
        encoded = monotonic()
        features, view_weights = self.aggregate_views(*views)
        log_odds = ood_log_odds(self.config.ood, features.plain, self.parts.text, self.parts.ood)
        routing = self.config.routing
        scores = class_scores(self.ensemble, features, log_odds, self.threshold, routing)
        submitted = scores[ENSEMBLE]
        ids = top5(submitted)
        log_odds[sorted(broken)] = np.nan
        best = self.label_space.best_of_groups
        predictions = Predictions(
            names=list(names),
            ids=ids.astype(np.int32),
            probabilities=np.exp(np.take_along_axis(submitted, ids, axis=1)).astype(np.float32),
            ood_log_odds=log_odds.astype(np.float32),
            routed_to_base=log_odds >= self.threshold,
            view_weights=view_weights.astype(np.float32),
            skipped=[(names[index], broken[index].cause) for index in sorted(broken)],
            top1_among={classifier: best(values) for classifier, values in scores.items()},
        )
        self.seconds["decoding and encoding"] += encoded - started
        self.seconds["views to scores"] += monotonic() - encoded
        return predictions

    def aggregate_views(
        self, plain: np.ndarray, tuned: np.ndarray, auxiliary: np.ndarray | None = None
    ) -> tuple[Features, np.ndarray]:
        """Returns one row per image through each encoder, and view_weights[N,P] of plain CLIP.

        plain[N,P,E], tuned[N,P,E] and auxiliary[N,P,W] are the views' features. The auxiliary
        encoder has no text, so its views are averaged by the weights that plain CLIP gives them.
        """
        text, head = self.parts.text, self.parts.head
        aggregate, scale = mta.METHODS[self.config.tta], text.logit_scale
        plain_rows, view_weights = aggregate(plain, text.text_features, logit_scale=scale)
        tuned_rows, _ = aggregate(tuned, head.class_vectors, logit_scale=scale)
        if auxiliary is None:
            return Features(plain_rows, tuned_rows), view_weights
        weighted = unit_rows(auxiliary) * view_weights[:, :, None]
        return Features(plain_rows, tuned_rows, unit_rows(weighted.sum(axis=1))), view_weights
