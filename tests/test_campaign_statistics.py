"""Confidence intervals against published values, and percentiles of many values against exact ones."""

import numpy as np
import pytest

from jepsen_blk.campaign.sketch import Percentiles
from jepsen_blk.campaign.statistics import share


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine
        # 17, 1998, table I, method 3 (the score method without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
        (5, 5, 0.5655, 1.0),
    ],
)
def test_a_share_has_the_interval_of_wilson(count: int, of: int, low: float, high: float) -> None:
    found = share(count, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(("of", "high"), [(100, 0.03), (20, 0.15), (2, 1.0)])
def test_what_was_never_seen_has_the_upper_end_of_the_rule_of_three(of: int, high: float) -> None:
    assert (share(0, of).low, share(0, of).high) == (0.0, high)


def test_of_no_runs_nothing_is_known() -> None:
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize("percent", [50, 99])
def test_a_percentile_is_within_half_a_percent_of_the_exact_one_in_bounded_room(percent: int) -> None:
    values = np.exp(np.random.default_rng(7).normal(3, 2, 20_000))
    sketch = Percentiles()
    for value in values:
        sketch.add(float(value))
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert sketch.at(percent) == pytest.approx(exact, rel=0.0051)
    assert len(sketch._buckets) < 2000


def test_percentiles_of_one_value_and_of_none() -> None:
    sketch = Percentiles()
    assert sketch.at(50) is None
    sketch.add(100.0)
    assert sketch.at(50) == sketch.at(99) == pytest.approx(100.0, rel=0.005)
