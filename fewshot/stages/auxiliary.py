"""The auxiliary stage: a logit bias from a second, frozen encoder, if its weight file is there."""

import numpy as np

from fewshot.features.encoder import Encoder
from fewshot.stages.parts import AuxiliaryPart, TextPart
from fewshot.stages.pipeline import Stage
from fewshot.stages.task import Task, mean_views
from models.heads.auxiliary_bias import AuxiliaryBias


def auxiliary_stage(task: Task, encoder: Encoder) -> Stage:
    """Returns the stage that fits the bias to the shots' features through the second encoder."""

    def make(text: TextPart) -> AuxiliaryPart:
        features = encoder.encode_training_views(task.shots.paths, task.views)
        logits = task.zero_shot_logits(text)
        return train_auxiliary(features, task.labels, logits, encoder.weights_sha256)

    inputs = task.inputs_with_views | {"auxiliary": encoder.weights_sha256}
    return Stage("auxiliary", AuxiliaryPart, inputs, make, ("text",))


def train_auxiliary(
    features: np.ndarray, labels: np.ndarray, logits: np.ndarray, weights_sha256: str
) -> AuxiliaryPart:
    """Fits the bias to features[N,P,W] of the second encoder, next to zero-shot logits[N,K]."""
    bias = AuxiliaryBias().fit(mean_views(features), labels, logits)
    state = bias.state()
    print(f"auxiliary: ridge {bias.ridge_}, weight {bias.weight_:.2f}, both by leave-one-out")
    return AuxiliaryPart(
        trained_count=state["weights"].size + state["offsets"].size,
        selection={"ridge, weight": "by leave-one-out cross-entropy over the shots"},
        weights_sha256=weights_sha256,
        state=state,
    )
