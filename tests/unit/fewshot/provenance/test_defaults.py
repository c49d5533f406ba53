"""The manifest's list of constants that test labels of public data chose is true."""

import json
from importlib import import_module

import numpy as np
import pytest

from fewshot.features.encoder import code_version
from fewshot.provenance.defaults import CONSTANTS, OTHER_CODE, constants_in_use
from fewshot.stages.heads import HeadConfig
from fewshot.stages.parts import PART_TYPES
from fewshot.stages.record import TRAINING, Origin
from models.heads import gda
from runtime.paths import ROOT
from tests.helpers.simple_parts import make_parts, text_part

WEIGHT = "models.heads.gda.SMALLEST_WEIGHT"
ENSEMBLE = "fewshot.inference.classifiers.ENSEMBLE_WEIGHTS"
UPDATES = "fewshot.stages.heads.HeadConfig.n_iter"


def parts(code: str = "", n_iter: int = 100):
    """Parts that say which code trained them."""
    made = make_parts(text_part(np.eye(2, dtype=np.float32), [0, 1]))
    inputs = {"code": code or code_version(TRAINING), "head": {"n_iter": n_iter}}
    origins = {stage: Origin("clip_fewshot", stage, "", inputs, {}) for stage in PART_TYPES}
    made.origins.update(origins)
    return made


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda constant: constant.name)
def test_each_constant_exists_and_has_the_default_that_is_listed(constant):
    if constant.stage:
        assert getattr(HeadConfig(), constant.name) == constant.default
    else:
        assert getattr(import_module(constant.module), constant.name) == constant.default
    assert (ROOT / constant.page).is_file() and constant.chosen_on


def test_a_run_with_the_defaults_says_so():
    rows = constants_in_use(parts())
    assert len(rows) == len(CONSTANTS) and all(row["is_default"] for row in rows.values())
    assert any("Stanford Cars" in images for images in rows[WEIGHT]["default_chosen_on"])
    json.dumps(rows)


def test_a_constant_of_another_value_is_told(monkeypatch):
    monkeypatch.setattr(gda, "SMALLEST_WEIGHT", 0.2)
    row = constants_in_use(parts())[WEIGHT]
    assert (row["value"], row["default"], row["is_default"]) == (0.2, 0.01, False)


def test_a_field_of_another_value_is_told():
    row = constants_in_use(parts(n_iter=7))[UPDATES]
    assert (row["value"], row["is_default"]) == (7, False)


def test_what_other_code_trained_with_is_unknown():
    rows = constants_in_use(parts(code="of another version"))
    assert rows[WEIGHT]["value"] == OTHER_CODE and rows[WEIGHT]["is_default"] is None
    assert rows[ENSEMBLE]["is_default"] and rows[UPDATES]["value"] == 100
