"""Zero-shot routes, the trained parts rank; each image by itself, each part in its row."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from fewshot.inference.ensemble import (
    ENSEMBLE_WEIGHTS,
    ROUTINGS,
    SUBMITTED,
    Features,
    base_logits,
    class_scores,
    routed_scores,
)
from models.heads.auxiliary_bias import AuxiliaryBias
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus
from models.heads.zero_shot import text_logits
from models.normalize import unit_rows

RANDOM = np.random.default_rng(0)
TEXT = unit_rows(RANDOM.normal(size=(6, 16))).astype(np.float32)
BASE, NEW = [0, 2, 3, 5], [1, 4]
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
    weight = gda.fit_weight(100 * PLAIN[rows] @ text.T, labels) if n_iter else 0.0
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


def scored(features, parts, routing="soft", threshold=0.0):
    """Scores under zero-shot's own odds of any base class."""
    logits = text_logits(features.plain, TEXT, 100.0).astype(np.float64)
    odds = logsumexp(logits[:, BASE], axis=1) - logsumexp(logits[:, NEW], axis=1)
    return class_scores(features, parts, odds, threshold, routing)


@pytest.mark.parametrize("routing", ["soft", "none"])
def test_untrained_parts_are_zero_shot_in_every_row(routing):
    without = Features(PLAIN, PLAIN)
    scores = scored(without, parts_of(0), routing)
    ways = [*base_logits(without, parts_of(0)), *ROUTINGS.values()]
    assert list(scores) == ways and "+ LoRA" in scores
    for way in set(ways) - {ROUTINGS["hard"]}:
        # float32 logits of up to 100, taken apart and put together again
        assert scores[way] == pytest.approx(scores["zero-shot"], abs=1e-3), way


def test_shares_make_a_whole():
    assert sum(ENSEMBLE_WEIGHTS.values()) == pytest.approx(1) and min(ENSEMBLE_WEIGHTS.values()) > 0
    assert "zero-shot + GDA" in ENSEMBLE_WEIGHTS


def test_trained_parts_rank_base_classes_and_leave_the_rest(trained):
    scores = scored(FEATURES, trained)
    zero_shot = scores["zero-shot"]
    held_out = np.flatnonzero(np.isin(LABELS, BASE) & (np.arange(80) >= 60))
    for way in ("+ LP++", "+ auxiliary", SUBMITTED):
        values = scores[way]
        assert values[:, NEW] == pytest.approx(zero_shot[:, NEW], abs=1e-9)  # float64 logarithms
        mass = [np.exp(s[:, BASE]).sum(axis=1) for s in (values, zero_shot)]
        assert mass[0] == pytest.approx(mass[1], abs=1e-9)
    before, after = (
        (scores[way][:, BASE].argmax(axis=1) == np.searchsorted(BASE, LABELS))[held_out].mean()
        for way in ("zero-shot", SUBMITTED)
    )
    assert after >= before and (scores[SUBMITTED] != zero_shot).any()


def test_routing_by_hand():
    base, new = np.log([[0.75, 0.25]] * 2), np.log([[0.5, 0.3, 0.2]] * 2)
    odds = np.log([3.0, 1 / 4])  # base with probability 3/4, 1/5
    soft = np.exp(routed_scores(base, new, odds, 0.0, "soft"))
    assert soft[0] == pytest.approx([9 / 16, 3 / 16, 1 / 8, 0.075, 0.05])
    assert soft[1] == pytest.approx([0.15, 0.05, 0.4, 0.24, 0.16])
    hard = routed_scores(base, new, odds, 0.0, "hard")
    assert np.argsort(-hard).tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 0, 1]]
    assert np.exp(hard)[0] == pytest.approx([0.75, 0.25, 0, 0, 0])
    moved = routed_scores(base, new, odds, odds[1], "hard")  # a score at the threshold is base
    assert np.argsort(-moved).tolist() == [[0, 1, 2, 3, 4]] * 2
    side_by_side = np.exp(routed_scores(base, new, odds, 0.0, "none"))
    assert side_by_side[0] == pytest.approx([0.375, 0.125, 0.25, 0.15, 0.1])


def test_the_odds_move_whole_groups_only(trained):
    few, many = (
        class_scores(FEATURES, trained, np.full(80, odds), 0.0, "soft")[SUBMITTED]
        for odds in (-5.0, 5.0)
    )
    for ids in (BASE, NEW):
        assert (np.argsort(-few[:, ids]) == np.argsort(-many[:, ids])).all()
    assert np.isin(few.argmax(axis=1), NEW).mean() > np.isin(many.argmax(axis=1), NEW).mean()


def test_the_zero_shot_row_is_clips_own_softmax_under_any_routing(trained):
    expected = log_softmax(text_logits(PLAIN, TEXT, 100.0).astype(float), axis=1)
    for routing in ROUTINGS:
        scores = class_scores(FEATURES, trained, np.full(80, -3.0), 0.0, routing)
        assert scores["zero-shot"] == pytest.approx(expected, abs=1e-9)  # float64 logarithms


def test_without_new_classes_the_blend_stands_alone(trained):
    text = trained["text"] | {"text_features": TEXT[BASE], "base_ids": range(4)}
    scores = class_scores(FEATURES, trained | {"text": text}, np.zeros(80), 0.0, "hard")[SUBMITTED]
    logits = base_logits(FEATURES, trained | {"text": text})[SUBMITTED]
    assert scores == pytest.approx(log_softmax(logits.astype(float), axis=1), abs=1e-9)


def test_the_auxiliary_is_added_where_it_is_there(trained):
    rows = base_logits(FEATURES, trained)
    bias = rows["+ auxiliary"] - rows["+ channel re-weighting"]
    expected = AuxiliaryBias.from_state(trained["auxiliary"]["state"]).decision_function(SECOND)
    assert bias == pytest.approx(expected, abs=1e-4)  # float32 differences of numbers up to 100
    without = base_logits(Features(PLAIN, PLAIN), trained)
    assert "+ auxiliary" not in without
    assert rows[SUBMITTED] - without[SUBMITTED] == pytest.approx(expected, abs=1e-4)


def test_each_image_is_scored_by_itself(trained):
    together = scored(FEATURES, trained)[SUBMITTED]
    one = Features(PLAIN[7:8], PLAIN[7:8], SECOND[7:8])
    # a product of one row is summed in another order than that of 80
    assert scored(one, trained)[SUBMITTED] == pytest.approx(together[7:8], abs=1e-4)


def test_an_unreadable_image_scores_equally_and_leaves_the_others(trained):
    holes = Features(*(np.where(np.arange(80)[:, None] % 9, a, 0) for a in (PLAIN, PLAIN, SECOND)))
    whole, scores = (scored(f, trained)[SUBMITTED] for f in (FEATURES, holes))
    assert (scores[::9] == scores[0, 0]).all() and (scores[1::9] == whole[1::9]).all()
    nothing = Features(*(np.zeros((2, width), np.float32) for width in (16, 16, 10)))
    assert len(np.unique(scored(nothing, trained)[SUBMITTED])) == 1
