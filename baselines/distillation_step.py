"""How a DeiT learns from labels and from a teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jittor as jt

from baselines.distillation import hard_distillation, rkd_angle, rkd_distance, soft_distillation
from engine.config import require_ranges
from engine.losses import soft_cross_entropy
from models.backbones.networks import Network


@dataclass(frozen=True)
class DistilConfig:
    """What the student takes from the teacher."""

    logits: Literal["soft", "hard"] = "soft"
    """the teacher's probabilities, or the class it prefers"""
    logits_weight: float = 1.0
    """weight of the loss on the teacher's logits"""
    temperature: float = 3.0
    """of the soft logits"""
    distance_weight: float = 1.0
    """weight of RKD's distances"""
    angle_weight: float = 2.0
    """weight of RKD's angles"""

    def __post_init__(self):
        weights = ("logits_weight", "distance_weight", "angle_weight")
        require_ranges({name: getattr(self, name) for name in weights}, least=0)


def distillation_step(
    student: jt.nn.Module, teacher: Network | None, config: DistilConfig
) -> Callable[[tuple], dict[str, jt.Var]]:
    """A training step on batches of (images[B,3,R,R], soft targets[B,C]).

    The student's class token learns the labels, its distillation token the teacher's logits, the
    mean of both the teacher's geometry (RKD). Without a teacher both tokens learn the labels.
    """

    def step(batch: tuple) -> dict[str, jt.Var]:
        images, targets = map(jt.array, batch)
        first, second = student.both_features(images)
        by_class, by_token = student.classify(first, second)
        values = {"labels loss": soft_cross_entropy(by_class, targets)}
        if teacher is None:
            values["token loss"] = soft_cross_entropy(by_token, targets)
            return {"loss": sum(values.values())} | values
        with jt.no_grad():
            known = teacher.features(images)
            wanted = getattr(teacher, teacher.head_names[0])(known)
        if config.logits == "hard":
            values["logits loss"] = hard_distillation(by_token, wanted)
        else:
            values["logits loss"] = soft_distillation(by_token, wanted, config.temperature)
        features = (first + second) / 2
        values["distance loss"] = rkd_distance(features, known)
        values["angle loss"] = rkd_angle(features, known)
        weights = (1.0, config.logits_weight, config.distance_weight, config.angle_weight)
        terms = zip(weights, values.values(), strict=True)
        return {"loss": sum(weight * value for weight, value in terms)} | values

    return step
