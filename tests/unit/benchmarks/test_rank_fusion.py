"""Transductive rank fusion, worked by hand."""

import numpy as np
from scipy.special import softmax

from benchmarks.rank_fusion import transductive_rank_fusion

LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 4.0]])
OTHERS = np.log([[2.0, 6.0, 1.0, 1.0], [1.0, 1.0, 1.0, 9.0]])


def test_rank_fusion_by_hand():
    fused = transductive_rank_fusion(LOGITS, OTHERS)
    p = softmax(np.hstack([LOGITS, OTHERS]), axis=1)
    share = p[:, :3].sum(axis=1)
    h_s = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    h_m = -(p * np.log(p)).sum(axis=1) / np.log(7)
    ranks_m, ranks_s = np.array([1.0, 0.5]), np.array([0.5, 1.0])  # .28 > .17, .44 < .5
    np.testing.assert_allclose(
        fused, (h_m * ranks_s + h_s * ranks_m) / (h_s + h_m), rtol=0, atol=1e-9
    )  # float64
    alone = transductive_rank_fusion(LOGITS[:1], OTHERS[:1])
    assert alone[0] != fused[0]  # it is not inductive, and says so in its name
    sure = transductive_rank_fusion([[500.0, 0.0], [0.0, 0.0]], [[0.0], [500.0]])
    assert sure[0] > sure[1] and np.isfinite(sure).all()
