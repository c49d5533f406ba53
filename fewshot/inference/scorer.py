"""From test images to decisions: views, their mode, routing, scores. Each image by itself."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from PIL import Image

import runtime
from data.decoding import BrokenImage, decode
from data.label_space import LabelSpace
from data.views import Views, random_view
from engine.device import precision_in_use
from fewshot.features.encoder import Encoder, code_version, encode_views
from fewshot.inference import mta
from fewshot.inference.ensemble import SUBMITTED, Features, class_scores
from fewshot.inference.predictions import Predictions
from fewshot.inference.submission import top5
from fewshot.stages.ood import base_odds
from fewshot.stages.pipeline import Parts
from jclip.preprocess import centre_crop, resize_short_side
from models.normalize import unit_rows

PICTURE = 160  # pixels a side of a view that is shown
CODE = (
    "fewshot/**/*.py",
    "models/**/*.py",
    "data/*.py",
)  # what an outcome depends on beside the features' code


@dataclass(frozen=True)
class InferenceConfig:
    """How a test image is looked at and routed."""

    tta: str  # one of `mta.METHODS`
    views: Views
    ood: str  # one of `ood_stage.FILTERS`
    routing: str  # one of `classifier.ROUTINGS`


class Scorer:
    """Classifies images with trained parts.

    encoders: CLIP as it came, CLIP with LoRA merged and, where there is one, the auxiliary encoder.
    `seconds` collects where the time went.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        parts: Parts,
        hashes: dict[str, str],
        looks: InferenceConfig,
    ):
        """hashes: SHA-256 of each part's file by its name."""
        self.hashes = hashes
        self.encoders, self.parts, self.looks = encoders, parts, looks
        text = parts["text"]
        self.label_space = LabelSpace(tuple(text["class_names"]), tuple(text["base_ids"]))
        self.threshold = parts["ood"]["thresholds"][looks.ood]
        self.seconds: dict[str, float] = defaultdict(float)

    def setup(self) -> dict:
        """Plain data: all that an outcome depends on beside the images."""
        looks, crops = self.looks, self.looks.views.crops
        return {
            "parts": self.hashes,
            "encoders": [encoder.weights_sha256 for encoder in self.encoders],
            "looks": [looks.tta, looks.ood, looks.routing],
            "views": [looks.views.count, looks.views.seed, *crops.scale, crops.flip],
            "device": [self.encoders[0].device, precision_in_use(), runtime.PREPARED.threads],
            "code": code_version(*CODE),
        }

    def __call__(
        self, names: Sequence[str], paths: Sequence[Path], tick: Callable = lambda: None
    ) -> Predictions:
        """The outcome of some images; `tick()` is called after each one that was decoded."""
        started = monotonic()
        found, broken = encode_views(self.encoders, paths, self.looks.views, tick)
        encoded = monotonic()
        features, inlierness = self.modes(*found)
        odds = base_odds(self.parts, self.looks.ood, features.plain)
        scores = class_scores(features, self.parts, odds, self.threshold, self.looks.routing)
        final = scores[SUBMITTED]
        ids = top5(final)
        odds[sorted(broken)] = np.nan
        outcome = Predictions(
            names=list(names),
            ids=ids.astype(np.int32),
            probabilities=np.exp(np.take_along_axis(final, ids, axis=1)).astype(np.float32),
            base_score=odds.astype(np.float32),
            routed_base=odds >= self.threshold,
            inlierness=inlierness.astype(np.float32),
            skipped=[(names[index], broken[index].cause) for index in sorted(broken)],
            picks={way: self.label_space.best_of_groups(s) for way, s in scores.items()},
        )
        self.seconds["decoding and encoding"] += encoded - started
        self.seconds["views to scores"] += monotonic() - encoded
        return outcome

    def modes(self, plain: np.ndarray, tuned: np.ndarray, *second: np.ndarray):
        """(one row an image through each encoder, inlierness[N,P] of the views through plain CLIP).

        plain[N,P,E], tuned[N,P,E], and second[N,P,W] where there is an auxiliary encoder. That one
        has no text to find a mode by: its views count as plain CLIP finds them inlying.
        """
        text, head = self.parts["text"], self.parts["head"]
        method, scale = mta.METHODS[self.looks.tta], text["logit_scale"]
        modes, inlierness = method(plain, text["text_features"], logit_scale=scale)
        tuned_modes, _ = method(tuned, head["class_vectors"], logit_scale=scale)
        means = []
        for views in second:  # [N,P,W]
            means.append(unit_rows((unit_rows(views) * inlierness[:, :, None]).sum(axis=1)))
        return Features(modes, tuned_modes, *means), inlierness

    def picture(self, path: Path, view: int) -> Image.Image:
        """A view of an image to be looked at, RGB; grey where that cannot be made any more."""
        views = self.looks.views
        try:
            image = decode(path)
            if view:
                return random_view(image, PICTURE, views.crops, views.seed, view)
            return centre_crop(resize_short_side(image, PICTURE), PICTURE).convert("RGB")
        except (BrokenImage, ValueError):
            return Image.new("RGB", (PICTURE, PICTURE), "grey")
