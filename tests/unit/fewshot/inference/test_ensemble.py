"""Zero-shot routes, the trained parts rank; each image by itself, each part in its row."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from fewshot.inference.classifiers import CLASSIFIERS, ENSEMBLE, ENSEMBLE_WEIGHTS, ROUTED, ROUTINGS
from fewshot.inference.ensemble import Ensemble, Features
from fewshot.inference.routing import class_scores
from fewshot.stages.parts import GdaPart
from models.heads.auxiliary_bias import AuxiliaryBias
from models.heads.channel_reweighting import ChannelReweighting
from models.heads.gda import GaussianDiscriminant
from models.heads.lpplusplus import LPPlusPlus
from models.heads.zero_shot import text_logits
from models.normalize import unit_rows
from tests.helpers.simple_parts import make_parts, text_part

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
    return make_parts(
        text_part(TEXT, BASE),
        text,
        head_state=head.state(),
        channel_state=channel.state(),
        channel_head_state=behind.state(),
        gda=GdaPart(weight=weight, state=gda.state()),
        auxiliary_state=bias.state(),
    )


@pytest.fixture(scope="module")
def trained():
    return parts_of(50)


def scored(features, parts, routing="soft", threshold=0.0):
    """Scores under zero-shot's own odds of any base class."""
    logits = text_logits(features.plain, TEXT, 100.0).astype(np.float64)
    odds = logsumexp(logits[:, BASE], axis=1) - logsumexp(logits[:, NEW], axis=1)
    return class_scores(Ensemble(parts), features, odds, threshold, routing)


@pytest.mark.parametrize("routing", ["soft", "none"])
def test_untrained_parts_are_zero_shot_in_every_row(routing):
    without = Features(PLAIN, PLAIN)
    scores = scored(without, parts_of(0), routing)
    every = [*Ensemble(parts_of(0)).logits(without), *(form.id for form in ROUTED)]
    assert list(scores) == every and "lora" in scores
    for id in set(every) - {"ensemble_hard_routing"}:
        # float32 logits of up to 100, taken apart and put together again
        assert scores[id] == pytest.approx(scores["zero_shot"], abs=1e-3), id


def test_the_table_of_classifiers_names_everything_that_is_scored(trained):
    scores = scored(FEATURES, trained)
    assert list(CLASSIFIERS) == list(scores)
    assert len({classifier.label for classifier in CLASSIFIERS.values()}) == len(CLASSIFIERS)
    singles = [c.id for c in CLASSIFIERS.values() if c.stage]
    assert singles == list(scores)[: len(singles)]
    left_out = [c.without for c in CLASSIFIERS.values() if c.without]
    assert left_out == [*ENSEMBLE_WEIGHTS, "auxiliary"]


def test_shares_make_a_whole():
    assert sum(ENSEMBLE_WEIGHTS.values()) == pytest.approx(1) and min(ENSEMBLE_WEIGHTS.values()) > 0
    assert "gda" in ENSEMBLE_WEIGHTS


def test_trained_parts_rank_base_classes_and_leave_the_rest(trained):
    scores = scored(FEATURES, trained)
    zero_shot = scores["zero_shot"]
    held_out = np.flatnonzero(np.isin(LABELS, BASE) & (np.arange(80) >= 60))
    for id in ("lpplusplus", "auxiliary", ENSEMBLE):
        values = scores[id]
        assert values[:, NEW] == pytest.approx(zero_shot[:, NEW], abs=1e-9)  # float64 logarithms
        mass = [np.exp(s[:, BASE]).sum(axis=1) for s in (values, zero_shot)]
        assert mass[0] == pytest.approx(mass[1], abs=1e-9)
    before, after = (
        (scores[id][:, BASE].argmax(axis=1) == np.searchsorted(BASE, LABELS))[held_out].mean()
        for id in ("zero_shot", ENSEMBLE)
    )
    assert after >= before and (scores[ENSEMBLE] != zero_shot).any()


def test_the_odds_move_whole_groups_only(trained):
    few, many = (
        class_scores(Ensemble(trained), FEATURES, np.full(80, odds), 0.0, "soft")[ENSEMBLE]
        for odds in (-5.0, 5.0)
    )
    for ids in (BASE, NEW):
        assert (np.argsort(-few[:, ids]) == np.argsort(-many[:, ids])).all()
    assert np.isin(few.argmax(axis=1), NEW).mean() > np.isin(many.argmax(axis=1), NEW).mean()


def test_the_zero_shot_row_is_clips_own_softmax_under_any_routing(trained):
    expected = log_softmax(text_logits(PLAIN, TEXT, 100.0).astype(float), axis=1)
    for routing in ROUTINGS:
        scores = class_scores(Ensemble(trained), FEATURES, np.full(80, -3.0), 0.0, routing)
        assert scores["zero_shot"] == pytest.approx(expected, abs=1e-9)  # float64 logarithms


def test_without_new_classes_the_blend_stands_alone(trained):
    ensemble = Ensemble(replace(trained, text=text_part(TEXT[BASE], range(4))))
    scores = class_scores(ensemble, FEATURES, np.zeros(80), 0.0, "hard")[ENSEMBLE]
    logits = ensemble.logits(FEATURES)[ENSEMBLE]
    assert scores == pytest.approx(log_softmax(logits.astype(float), axis=1), abs=1e-9)


def test_the_auxiliary_is_added_where_it_is_there(trained):
    rows = Ensemble(trained).logits(FEATURES)
    bias = rows["auxiliary"] - rows["channel"]
    expected = AuxiliaryBias.from_state(trained.auxiliary.state).decision_function(SECOND)
    assert bias == pytest.approx(expected, abs=1e-4)  # float32 differences of numbers up to 100
    without = Ensemble(trained).logits(Features(PLAIN, PLAIN))
    assert "auxiliary" not in without
    assert rows[ENSEMBLE] - without[ENSEMBLE] == pytest.approx(expected, abs=1e-4)


def test_each_image_is_scored_by_itself(trained):
    together = scored(FEATURES, trained)[ENSEMBLE]
    one = Features(PLAIN[7:8], PLAIN[7:8], SECOND[7:8])
    # a product of one row is summed in another order than that of 80
    assert scored(one, trained)[ENSEMBLE] == pytest.approx(together[7:8], abs=1e-4)


def test_an_unreadable_image_scores_equally_and_leaves_the_others(trained):
    holes = Features(*(np.where(np.arange(80)[:, None] % 9, a, 0) for a in (PLAIN, PLAIN, SECOND)))
    whole, scores = (scored(f, trained)[ENSEMBLE] for f in (FEATURES, holes))
    assert (scores[::9] == scores[0, 0]).all() and (scores[1::9] == whole[1::9]).all()
    nothing = Features(*(np.zeros((2, width), np.float32) for width in (16, 16, 10)))
    assert len(np.unique(scored(nothing, trained)[ENSEMBLE])) == 1
