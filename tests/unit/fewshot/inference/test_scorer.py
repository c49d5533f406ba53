"""What an outcome is made of, recomputed step by step from the same parts."""

import dataclasses

import numpy as np
import pytest

from data.few_shot_dataset import list_test_images
from data.views import Crops, Views
from fewshot.inference import mta
from fewshot.inference.scorer import Encoders, InferenceConfig, Scorer
from fewshot.stages.ood_log_odds import ood_log_odds
from fewshot.stages.parts import read_parts
from models.normalize import unit_rows
from recipes import predict
from tests.helpers.main_job import predict_config

VIEWS = Views(3, Crops((0.5, 1.0)), 7)


@pytest.fixture(scope="module")
def scorer(job, tmp_path_factory):
    config = predict_config(job, tmp_path_factory.mktemp("scorer"))
    parts = read_parts(config.parts)
    encoders = predict.make_encoders(config, job / "clip.pkl", parts)
    return Scorer(encoders, parts, InferenceConfig("mta", VIEWS, "gp", "soft"))


@pytest.fixture(scope="module")
def seen(scorer, job):
    """(paths, [features[N,P,E] of each encoder], the outcome)."""
    paths = [item.path for item in list_test_images(job / "demo", "TestSetB")[:6]]
    views = [encoder.encode_training_views(paths, VIEWS) for encoder in scorer.encoders]
    return paths, views, scorer([path.name for path in paths], paths)


def test_each_encoder_has_its_own_text(scorer, seen):
    _, (plain, tuned, second), outcome = seen
    features, view_weights = scorer.aggregate_views(plain, tuned, second)
    text = scorer.parts.text
    mode, expected = mta.solve(plain, text.text_features, logit_scale=text.logit_scale)
    assert (features.plain == mode).all() and (view_weights == expected).all()
    vectors = scorer.parts.head.class_vectors
    assert (features.tuned == mta.solve(tuned, vectors, logit_scale=text.logit_scale)[0]).all()
    rows = unit_rows(second.reshape(-1, second.shape[2])).reshape(second.shape)
    weighed = unit_rows((rows * expected[:, :, None]).sum(axis=1))
    assert features.auxiliary == pytest.approx(weighed, abs=1e-12)  # float64
    assert outcome.view_weights == pytest.approx(expected, abs=1e-7)  # float32


def test_the_centre_view_alone_is_the_centre_view_everywhere(scorer, seen):
    alone = Scorer(scorer.encoders, scorer.parts, InferenceConfig("none", VIEWS, "gp", "soft"))
    _, (plain, tuned, second), _ = seen
    features, _ = alone.aggregate_views(plain, tuned, second)
    pairs = zip((plain, tuned, second), vars(features).values(), strict=True)
    for views, found in pairs:
        assert found == pytest.approx(unit_rows(views[:, 0].astype(float)), abs=1e-6)  # float32


def test_odds_are_plain_clips_and_the_threshold_itself_is_base(scorer, seen):
    paths, views, outcome = seen
    features, _ = scorer.aggregate_views(*views)
    odds = ood_log_odds("gp", features.plain, scorer.parts.text, scorer.parts.ood)
    assert outcome.ood_log_odds == pytest.approx(odds, abs=1e-5)  # float32 of numbers below 100
    edge = Scorer(scorer.encoders, scorer.parts, scorer.config)
    edge.threshold = odds[2]
    assert edge(outcome.names, paths).routed_to_base.tolist() == (odds >= odds[2]).tolist()


def test_probabilities_are_probabilities(seen):
    found = seen[2].probabilities
    assert ((found > 0) & (found <= 1)).all() and (np.diff(found, axis=1) <= 0).all()
    assert (found.sum(axis=1) <= 1 + 1e-6).all()  # five float32 numbers


def test_a_setup_is_known_by_all_that_an_outcome_follows_from(scorer):
    config = scorer.config
    others = [dataclasses.replace(config, tta="mean"), dataclasses.replace(config, ood="names")]
    others += [dataclasses.replace(config, routing="hard")]
    changes = {"count": 4, "seed": 8, "crops": Crops((0.4, 1.0))}
    changes = [{name: value} for name, value in changes.items()] + [{"crops": Crops(flip=False)}]
    others += [
        dataclasses.replace(config, views=dataclasses.replace(VIEWS, **change))
        for change in changes
    ]
    two_encoders = Encoders(scorer.encoders.plain, scorer.encoders.tuned)
    made = [Scorer(scorer.encoders, scorer.parts, other) for other in others]
    other_parts = dataclasses.replace(scorer.parts, hashes={"gda.pkl": "b"})
    made += [Scorer(scorer.encoders, other_parts, config)]
    made += [Scorer(two_encoders, scorer.parts, config)]
    setups = [repr(one.setup()) for one in (scorer, *made)]
    assert len(set(setups)) == len(setups)
