"""A scale for the bars of the figure: blackouts differ by powers of ten, so it is logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jepsen_blk.report.comparison.groups import Group, PolicyCost
from jepsen_blk.report.comparison.wording import milliseconds

_LEAST_PERCENT = 1.5
"""So that a bar from a value to the same value is seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from the median to the 99th percentile, in per cent of the scale."""

    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`, both powers of ten of milliseconds."""

    low: int
    high: int

    @property
    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return where each power of ten is, in per cent, and what it is called."""
        return [
            (self._at(10.0**power), milliseconds(10.0**power)) for power in range(self.low, self.high + 1)
        ]

    def bar(self, cost: PolicyCost) -> Bar | None:
        """Return the bar of a policy's blackouts; None where it had none."""
        if cost.blackout_p50_ms is None or cost.blackout_p99_ms is None:
            return None
        left = self._at(cost.blackout_p50_ms)
        width = max(self._at(cost.blackout_p99_ms) - left, _LEAST_PERCENT)
        return Bar(min(left, 100 - width), width)

    def _at(self, value_ms: float) -> float:
        power = math.log10(max(value_ms, 10.0**self.low))
        return round(min(100.0, (power - self.low) / (self.high - self.low) * 100), 2)


def scale_of(groups: Iterable[Group]) -> Scale | None:
    """Return the scale that all figures of a page share; None where no blackout was measured."""
    values = [
        value
        for group in groups
        for policy in group.policies
        for cost in (group.cost(policy),)
        for value in (cost.blackout_p50_ms, cost.blackout_p99_ms)
        if value is not None and value > 0
    ]
    if not values:
        return None
    low = math.floor(math.log10(min(values)))
    return Scale(low, max(math.ceil(math.log10(max(values))), low + 1))
