"""The files of a finished run, by hand."""

import json

import numpy as np
import pytest

from baselines.results import write_result
from engine.run_log import Run


def test_a_result_by_hand(tmp_path):
    run = Run(tmp_path, {"lr": 0.1, "scale": [0.5, 1]})
    run.log(0, {"loss": 2.0, "val accuracy": 0.5})
    run.close()
    logits = np.array([[2, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    result = write_result(run, logits, np.array([0, 1, 1, 1]), ("a", "b", "c"), {"note": "x"})
    assert result["accuracy"] == 0.5 and result["recall"] == pytest.approx((1 + 1 / 3) / 2)
    assert result["precision"] == pytest.approx((1 / 2 + 1) / 2)
    lines = (tmp_path / "confusion.csv").read_text().splitlines()
    assert lines == ["true \\ predicted,a,b,c", "a,1,0,0", "b,1,1,1", "c,0,0,0"]
    for name in ("confusion.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    summary = (tmp_path / "summary.csv").read_text().splitlines()
    assert summary[0].startswith("lr,scale,accuracy") and '"[0.5, 1]"' in summary[1]
    assert json.loads((tmp_path / "result.json").read_text())["result"] == result
