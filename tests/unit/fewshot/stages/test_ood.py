"""The ood stage: every filter tells base from new on made-up classes, and its threshold keeps what
it says of the shots' views.
"""

import numpy as np
import pytest

from fewshot.features.encoder import Encoder
from fewshot.stages.ood import OodConfig, mined_negatives, train_ood
from fewshot.stages.ood_log_odds import FILTERS, ood_log_odds
from fewshot.text.negatives import load_negatives
from fewshot.text.prompt_files import load_templates
from models.heads.zero_shot import text_logits
from models.normalize import unit_rows
from tests.helpers.simple_parts import text_part
from tests.helpers.tiny_clip import write_tiny_clip

RANDOM = np.random.default_rng(0)
CENTRES = unit_rows(RANDOM.normal(size=(12, 24)))
BASE = [0, 1, 2, 3, 5, 7]


def looks_like(classes, spread=0.25):
    noise = spread * RANDOM.normal(size=(len(classes), 24))
    return unit_rows(CENTRES[classes] + noise).astype(np.float32)


def text_of(base=BASE):
    return text_part(looks_like(np.arange(12), 0.1), base, logit_scale=50.0)


LABELS = np.repeat(np.arange(len(BASE)), 4)
VIEWS = np.stack([looks_like(np.array(BASE)[LABELS]) for _ in range(5)], axis=1)  # [24,5,24]
NEGATIVES = ([f"word {n}" for n in range(40)], unit_rows(RANDOM.normal(size=(40, 24))))
IMAGES = np.repeat(np.arange(12), 30)


@pytest.fixture(scope="module")
def parts():
    text = text_of()
    return text, train_ood(OodConfig(), VIEWS, LABELS, text, NEGATIVES)


@pytest.mark.parametrize("name", FILTERS)
def test_base_images_score_higher_and_most_lie_above_the_threshold(parts, name):
    odds = ood_log_odds(name, looks_like(IMAGES), *parts)
    is_base, threshold = np.isin(IMAGES, BASE), parts[1].thresholds[name]
    assert odds[is_base].mean() > odds[~is_base].mean() + 1
    kept = (odds >= threshold)[is_base].mean()
    assert 0.85 <= kept <= 1  # .95 of 120 views; four deviations of a share of 180 images are .065


@pytest.mark.parametrize("name", FILTERS[1:])
def test_the_threshold_keeps_the_stated_share_of_the_shots_views(name):
    text = text_of()
    part = train_ood(OodConfig(target_tpr=0.8), VIEWS, LABELS, text, NEGATIVES)
    odds = ood_log_odds(name, VIEWS.reshape(-1, 24), text, part)
    assert (odds >= part.thresholds[name]).mean() == pytest.approx(0.8, abs=1 / 120)


def test_the_fitted_filter_knows_new_names_and_the_share(parts):
    text, ood = parts
    assert ood.state["named"][0] == 1
    half = train_ood(OodConfig(target_tpr=0.5), VIEWS, LABELS, text, NEGATIVES)
    assert half.thresholds["gp"] > ood.thresholds["gp"]


def test_a_single_base_class_has_odds():
    text = text_of([0])
    part = train_ood(OodConfig(), VIEWS[:4], np.zeros(4, int), text, NEGATIVES)
    for name in FILTERS:
        odds = ood_log_odds(name, looks_like(IMAGES), text, part)
        assert not np.isnan(odds).any() and not np.isnan(part.thresholds[name]), name


def test_negatives_are_mined_from_both_lists(tmp_path):
    write_tiny_clip(tmp_path / "clip.pkl")
    encoder = Encoder(tmp_path / "clip.pkl", "cpu", tmp_path)
    names = ["cat", "dog"]
    words, vectors = mined_negatives(encoder, names, encoder.encode_sentences(names))
    listed = load_negatives()
    kinds = [{word for word in words if word in listed[case]} for case in ("nouns", "phrases")]
    assert len(words) == len(vectors) == len(set(words)) and all(kinds)
    template = load_templates()["plain"][0]
    again = encoder.encode_sentences([template.format(word) for word in words])
    assert (vectors == again).all()


def test_names_are_zero_shots_own_mass(parts):
    features = looks_like(IMAGES)
    logits = np.exp(text_logits(features, parts[0].text_features, 50.0).astype(float))
    odds = np.log(logits[:, BASE].sum(axis=1) / np.delete(logits, BASE, axis=1).sum(axis=1))
    assert ood_log_odds("names", features, *parts) == pytest.approx(odds, abs=1e-6)


def test_without_new_names_negatives_stand_in(parts):
    text = text_of(list(range(12)))
    labels = np.repeat(np.arange(12), 4)
    views = np.stack([looks_like(labels) for _ in range(3)], axis=1)
    part = train_ood(OodConfig(), views, labels, text, NEGATIVES)
    strange = unit_rows(NEGATIVES[1][:20] + 0.1 * RANDOM.normal(size=(20, 24)))
    for name in FILTERS:
        odds = ood_log_odds(name, np.r_[looks_like(IMAGES), strange], text, part)
        assert np.median(odds[:-20]) > np.median(odds[-20:]), name


def test_a_share_that_is_none_is_refused():
    for kept in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="target_tpr"):
            OodConfig(kept)
