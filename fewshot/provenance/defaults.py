"""The kit's constants that were chosen while looking at labels of public test images.

Experiments chose them once (docs/experiments/), and no run chooses them again. The manifest lists
them, so that whoever reads an accuracy on one of these data sets knows.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fewshot.features.encoder import code_version
from fewshot.stages.parts import Parts
from fewshot.stages.record import TRAINING

CARS = "Stanford Cars: test images, and subsets of its classes"
CALTECH = "Caltech-101: test images"
DIGITS = "handwritten digits: test images"
DEMO = "the demo: training images that are no shots"
TASKS = (CARS, CALTECH, DIGITS)
NOTE = (
    "The kit's defaults of these constants were chosen on labels of these public images, before "
    "this run. The contest's 29 new classes are cars of Stanford Cars."
)
OTHER_CODE = "unknown: the parts were trained by other code"


@dataclass(frozen=True)
class ChosenConstant:
    """A constant of a module, and on which images its default was chosen."""

    module: str
    name: str
    default: Any
    chosen_on: tuple[str, ...] = TASKS
    page: str = "docs/experiments/head.md"
    is_trained_with: bool = True  # else only the test run uses it
    stage: str = ""  # the stage whose configuration has a field of this name, if any


HEADS = "models.heads"
LPPLUSPLUS, FILTER = f"{HEADS}.lpplusplus", "models.ood.gp_filter"
OOD: dict[str, Any] = {"chosen_on": (CARS,), "page": "docs/experiments/ood.md"}
WEIGHTS = {"gda": 0.1, "prompts": 0.1, "lora": 0.2, "channel": 0.6}

CONSTANTS = (
    ChosenConstant(
        "fewshot.inference.classifiers",
        "ENSEMBLE_WEIGHTS",
        WEIGHTS,
        chosen_on=(*TASKS, DEMO),
        is_trained_with=False,
    ),
    ChosenConstant(LPPLUSPLUS, "TEXT_SHARE", 0.75),
    ChosenConstant(LPPLUSPLUS, "TOTAL_SHARE", 0.3),
    ChosenConstant(LPPLUSPLUS, "DEFAULT_PENALTY", 0.05),
    ChosenConstant(LPPLUSPLUS, "SHOTS_FOR_FOLDS", 8),
    ChosenConstant(f"{HEADS}.softmax_regression", "OFFSET_SPREAD", 2.0),
    ChosenConstant("fewshot.stages.heads.HeadConfig", "n_iter", 100, stage="head"),
    ChosenConstant(f"{HEADS}.channel_reweighting", "PENALTY", 80.0),
    ChosenConstant(f"{HEADS}.gda", "SMALLEST_WEIGHT", 0.01),
    ChosenConstant(FILTER, "IMAGE_SHARE", 0.04, **OOD),
    ChosenConstant(FILTER, "NEGATIVE_SHARE", 0.8, **(OOD | {"chosen_on": (CARS, CALTECH)})),
    ChosenConstant(FILTER, "NAME_SHARE", 0.9, **OOD),
    ChosenConstant(FILTER, "PRIOR_VARIANCE", 2.0, **OOD),
    ChosenConstant(FILTER, "SHRINKAGE", 0.9, **OOD),
)


def constants_in_use(parts: Parts) -> dict[str, dict[str, Any]]:
    """Returns {constant: the value behind this run's result, the default, how that was chosen}.

    "is_default" is None if the value is unknown, because the parts were trained by other code than
    the one that runs.
    """
    trained_by = {origin.inputs["code"] for origin in parts.origins.values()}
    has_same_code = trained_by == {code_version(TRAINING)}
    rows = {}
    for constant in CONSTANTS:
        if constant.stage:
            value = parts.origins[constant.stage].inputs[constant.stage][constant.name]
        elif constant.is_trained_with and not has_same_code:
            value = OTHER_CODE
        else:
            value = getattr(import_module(constant.module), constant.name)
        rows[f"{constant.module}.{constant.name}"] = {
            "value": value,
            "default": constant.default,
            "is_default": None if value == OTHER_CODE else value == constant.default,
            "default_chosen_on": list(constant.chosen_on),
            "see": constant.page,
        }
    return rows
