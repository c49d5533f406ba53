"""The sweep's means and intervals, computed by hand."""

import pytest

from scripts.sweep import summary


def rows(base, new):
    zero_shot = {"base": base, "new": new, "trained": 0, "seconds": 3}
    return {"zero-shot": zero_shot, "+ LP++": zero_shot | {"base": 1.0}}


def cells(text):
    return [line.replace(" ± ", "±").split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("bases", "expected"),
    [
        # half of the interval: the 97.5 % point of Student's t times the deviation / sqrt(runs)
        ([0.5, 0.6, 0.7], "60.00±24.84"),  # 4.3027 x 10 / sqrt(3)
        ([0.5, 0.7], "60.00±127.06"),  # 12.7062 x 14.1421 / sqrt(2)
        ([0.5], "50.00±nan"),
    ],
)
def test_mean_and_interval_over_seeds(bases, expected):
    found = cells(summary([rows(base, 0.25) for base in bases]))
    still = "nan" if len(bases) == 1 else "0.00"
    assert found == [
        ["base", "new"],  # numbers and seconds are no accuracies
        ["zero-shot", expected, f"25.00±{still}"],
        ["+", "LP++", f"100.00±{still}", f"25.00±{still}"],
    ]


def test_only_ways_of_every_run_are_shown():
    more = rows(0.5, 0.5) | {"+ auxiliary": {"base": 0.9, "new": 0.9}}
    assert "auxiliary" in summary([more, more])
    assert "auxiliary" not in summary([more, rows(0.5, 0.5)])
