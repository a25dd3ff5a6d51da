"""Percentiles of ever so many values in a bounded room: a comparison of a million runs keeps no list of them.

Values are counted in buckets whose bounds grow by 1 %, as in DDSketch (C. Masson, J. E. Rim and H. K. Lee,
"DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019): a
percentile is off by half a percent at most, of values between a microsecond and a day by 2,500 buckets.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, log

_GROWTH = 1.01
_LEAST_MS = 0.001
"""What is less counts as this."""


class Percentiles:
    """Takes values in ms (or of any positive quantity) and says which value so many percent do not exceed."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a value."""
        self._buckets[ceil(log(max(value, _LEAST_MS)) / log(_GROWTH))] += 1

    def at(self, percent: float) -> float | None:
        """Return the value at a percentile, by nearest rank; None of no values."""
        left = ceil(self._buckets.total() * percent / 100) or 1
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                # The middle of a bucket from g^(i-1) to g^i, by the relative error.
                return round(2 * _GROWTH**bucket / (_GROWTH + 1), 3)
        return None
