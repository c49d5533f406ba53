"""The published form of LP++ against the public code's own figures."""

from pathlib import Path

import numpy as np

from models.head import LPPlusPlus

GOLDEN = Path(__file__).resolve().parents[1] / "golden/head/published.npz"


def test_published_form_repeats_the_public_code():
    with np.load(GOLDEN) as golden:
        features, labels, text = golden["features"], golden["labels"], golden["text"]
        for steps in golden["steps"]:
            head = LPPlusPlus(n_iter=int(steps), form="published").fit(features, labels, text)
            for ours, name in (
                (head.weights_, "weights"),
                (head.offsets_, "bias"),
                (head.alphas_, "alphas"),
            ):
                expected = golden[f"{name}_{steps}"]
                # both run in float32; up to 30 updates let its rounding grow to about 1e-5
                np.testing.assert_allclose(
                    ours, expected, rtol=0, atol=1e-4 * max(1, abs(expected).max())
                )
