"""How the baselines train on photos: random crops, RandAugment, random erasing, soft targets."""

from dataclasses import dataclass

from baselines.batches import SoftTargets
from baselines.datasets.image_sets import ImageSet
from baselines.trainer import Baseline, BaselineConfig
from baselines.transforms.compose import photo_transform


@dataclass(frozen=True)
class PhotoConfig(BaselineConfig):
    """The fields of every baseline on photos."""

    scale: tuple[float, float] = (0.35, 1.0)
    """least and largest share of a photo's area that a training crop takes"""
    randaugment: int = 0
    """magnitude, 1 to 30, of RandAugment's two operations; 0 for none"""
    erase: float = 0.0
    """probability of random erasing"""
    smoothing: float = 0.0
    """label smoothing, the share of a target that is spread over all classes"""
    mix: float = 0.0
    """alpha of mixup and CutMix, in turn; 0 for neither"""


def photo_batches(baseline: Baseline, images: ImageSet) -> SoftTargets:
    """Returns batches of augmented photos and soft targets by the fields of a `PhotoConfig`."""
    config = baseline.config
    transform = photo_transform(
        baseline.image_size,
        baseline.norm,
        scale=config.scale,
        magnitude=config.randaugment,
        erase=config.erase,
    )
    batches = baseline.batches(images, transform)
    return SoftTargets(batches, len(images.class_names), config.smoothing, config.mix)
