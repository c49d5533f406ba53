"""How the baselines train on photos: random crops, RandAugment, erasing, soft targets."""

from dataclasses import dataclass
from typing import Any

from baselines.datasets.image_sets import ImageSet
from baselines.targets import Targets
from baselines.trainer import Baseline, BaselineConfig
from baselines.transforms.compose import photo_transform


@dataclass(frozen=True)
class PhotoConfig(BaselineConfig):
    """What the baselines on photos have beside."""

    scale: tuple[float, float] = (0.35, 1.0)
    """share of the photo's area that a training crop takes, least and most"""
    randaugment: int = 0
    """magnitude, 1 to 30, of RandAugment's two operations; 0 for none"""
    erase: float = 0.0
    """probability of random erasing"""
    smoothing: float = 0.0
    """label smoothing"""
    mix: float = 0.0
    """alpha of mixup and CutMix, by turns; 0 for neither"""


def photo_batches(job: Baseline[Any], images: ImageSet) -> Targets:
    """Batches of augmented images and soft targets. job: of a `PhotoConfig`."""
    config = job.config
    crops = photo_transform(
        job.side, job.norm, scale=config.scale, magnitude=config.randaugment, erase=config.erase
    )
    classes = len(images.class_names)
    return Targets(job.batches(images, crops), classes, config.smoothing, config.mix)
