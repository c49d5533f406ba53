"""Zero-shot routes, the trained parts rank; each image by itself, each part in its row."""

import numpy as np
import pytest

from fewshot.classifier import BLEND, SUBMITTED, Features, base_logits, class_scores
from fewshot.metrics import accuracy_within
from models.auxiliary import AuxiliaryBias
from models.channel import ChannelReweighting
from models.gda import GaussianDiscriminant
from models.head import LPPlusPlus
from models.lpplusplus_geometry import unit_rows

RANDOM = np.random.default_rng(0)
TEXT = unit_rows(RANDOM.normal(size=(6, 16))).astype(np.float32)
BASE = [0, 2, 3, 5]
LABELS = RANDOM.integers(0, 6, 80)
PLAIN = unit_rows(2.5 * TEXT[LABELS] + RANDOM.normal(size=(80, 16))).astype(np.float32)
SECOND = RANDOM.normal(size=(80, 10)).astype(np.float32) + 2 * np.eye(6, 10)[LABELS]
FEATURES = Features(PLAIN, PLAIN, SECOND)


def parts_of(n_iter):
    """Parts trained on the first 60 images' base classes; n_iter=0 leaves all as it came."""
    rows = np.flatnonzero(np.isin(LABELS[:60], BASE))
    labels, text = np.searchsorted(BASE, LABELS[rows]), TEXT[BASE]
    channel = ChannelReweighting(n_iter=n_iter).fit(PLAIN[rows], labels, text)
    head = LPPlusPlus(n_iter=n_iter).fit(PLAIN[rows], labels, text)
    behind = LPPlusPlus(n_iter=n_iter).fit(
        channel.transform(PLAIN[rows]), labels, channel.transform_text(text)
    )
    gda = GaussianDiscriminant().fit(PLAIN[rows], labels, len(BASE))
    weight = gda.weight_beside(100 * PLAIN[rows] @ text.T, labels) if n_iter else 0.0
    bias = AuxiliaryBias().fit(SECOND[rows], labels, 100 * PLAIN[rows] @ text.T)
    return {
        "text": {"text_features": TEXT, "base_ids": BASE, "logit_scale": 100.0},
        "prompt": {"class_vectors": text},
        "head": {"class_vectors": text, "state": head.state()},
        "channel": {"channel": channel.state(), "state": behind.state()},
        "gda": {"state": gda.state(), "weight": weight},
        "auxiliary": {"state": bias.state()},
    }


@pytest.fixture(scope="module")
def trained():
    return parts_of(50)


def test_untrained_parts_are_zero_shot_in_every_row():
    without = Features(PLAIN, PLAIN)
    scores = class_scores(without, parts_of(0))
    assert list(scores) == [*list(base_logits(without, parts_of(0)))] and "+ LoRA" in scores
    for way, values in scores.items():
        # float32 sums of numbers up to 100, taken apart and put together again
        assert values == pytest.approx(scores["zero-shot"], abs=1e-3), way


def test_shares_make_a_whole():
    assert sum(BLEND.values()) == pytest.approx(1) and min(BLEND.values()) > 0
    assert "zero-shot + GDA" in BLEND


def test_trained_parts_rank_base_classes_and_leave_the_rest(trained):
    scores = class_scores(FEATURES, trained)
    zero_shot = scores["zero-shot"]
    held_out = np.arange(60, 80)
    for way in ("+ LP++", "+ auxiliary", SUBMITTED):
        values = scores[way]
        assert values[:, [1, 4]].tobytes() == zero_shot[:, [1, 4]].tobytes()
        mass = [np.exp(s[:, BASE].astype(np.float64)).sum(axis=1) for s in (values, zero_shot)]
        assert mass[0] == pytest.approx(mass[1], abs=1e-5)  # float32 logarithms
    before, after = (
        accuracy_within(scores[way][held_out], LABELS[held_out], BASE)
        for way in ("zero-shot", SUBMITTED)
    )
    assert after >= before and (scores[SUBMITTED] != zero_shot).any()


def test_the_auxiliary_is_added_where_it_is_there(trained):
    rows = base_logits(FEATURES, trained)
    bias = rows["+ auxiliary"] - rows["+ channel re-weighting"]
    expected = AuxiliaryBias.from_state(trained["auxiliary"]["state"]).decision_function(SECOND)
    assert bias == pytest.approx(expected, abs=1e-4)  # float32 differences of numbers up to 100
    without = base_logits(Features(PLAIN, PLAIN), trained)
    assert "+ auxiliary" not in without
    assert rows[SUBMITTED] - without[SUBMITTED] == pytest.approx(expected, abs=1e-4)


def test_each_image_is_scored_by_itself(trained):
    together = class_scores(FEATURES, trained)[SUBMITTED]
    # a product of one row is summed in another order than that of 80
    alone = class_scores(FEATURES.rows(np.array([7])), trained)[SUBMITTED]
    assert alone == pytest.approx(together[7:8], abs=1e-4)


def test_an_unreadable_image_scores_equally(trained):
    nothing = Features(*(np.zeros((2, width), np.float32) for width in (16, 16, 10)))
    assert len(np.unique(class_scores(nothing, trained)[SUBMITTED])) == 1
