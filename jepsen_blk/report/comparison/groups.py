"""The cells of a comparison as tables of policy by storage: one for each lab, frontend and nemesis.

Every table has its policies in the same order, the safest first and of these the one that stops the guest
for the shortest time, so that the order alone answers the first question.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jepsen_blk.campaign.summary import CellSummary, Cost
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

_MODELS = tuple(model.value for model in ConflictModel)
_POLICIES = tuple(policy.value for policy in HandoffPolicy)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a table was made: a cell without its storage and policy."""

    lab: str
    frontend: str
    nemesis: str

    def __str__(self) -> str:
        return f"{self.frontend} on lab {self.lab}, nemesis {self.nemesis}"


@dataclass(frozen=True, slots=True)
class PolicyCost:
    """What a policy costs at a place: medians over the storages, and the worst 99th percentile."""

    blackout_p50_ms: float | None
    blackout_p99_ms: float | None
    latency_overhead: float | None
    throughput_overhead: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """A table: policies down, storages across; a cell that was not run is missing."""

    place: Place
    policies: tuple[str, ...]
    storages: tuple[str, ...]
    cells: dict[tuple[str, str], CellSummary]

    def cost(self, policy: str) -> PolicyCost:
        """Return what the policy costs here."""
        costs = [
            self.cells[policy, storage].cost for storage in self.storages if (policy, storage) in self.cells
        ]
        return cost_of(costs)


def cost_of(costs: Sequence[Cost]) -> PolicyCost:
    """Sum up the costs of a policy's cells; what none of them has is None."""

    def of(take: Callable[[Cost], float | None], summed: Callable[[list[float]], float]) -> float | None:
        values = [value for cost in costs if (value := take(cost)) is not None]
        return summed(values) if values else None

    return PolicyCost(
        of(lambda cost: cost.blackout_p50_ms, statistics.median),
        of(lambda cost: cost.blackout_p99_ms, max),
        of(lambda cost: cost.latency_overhead, statistics.median),
        of(lambda cost: cost.throughput_overhead, statistics.median),
    )


def groups_of(cells: Sequence[CellSummary]) -> tuple[Group, ...]:
    """Sort cells into tables, in the order in which their places come first."""
    policies = policies_of(cells)
    places: dict[Place, list[CellSummary]] = {}
    for summary in cells:
        places.setdefault(place_of(summary), []).append(summary)
    return tuple(_group(place, own, policies) for place, own in places.items())


def place_of(summary: CellSummary) -> Place:
    """Return the place of a cell."""
    return Place(summary.cell.lab, summary.cell.frontend, summary.cell.nemesis)


def policies_of(cells: Iterable[CellSummary]) -> tuple[str, ...]:
    """Return the policies, those that failed in the fewest cells first, and of these the cheapest."""
    by_policy: dict[str, list[CellSummary]] = {}
    for summary in cells:
        by_policy.setdefault(summary.cell.policy, []).append(summary)

    def rank(policy: str) -> tuple[float, ...]:
        own = by_policy[policy]
        judged = [summary.judgement for summary in own]
        blackout_ms = cost_of([summary.cost for summary in own]).blackout_p50_ms
        return (
            judged.count("unsafe") / len(own),
            1 - judged.count("safe") / len(own),
            float("inf") if blackout_ms is None else blackout_ms,
            _place_in(_POLICIES, policy),
        )

    return tuple(sorted(by_policy, key=lambda policy: (*rank(policy), policy)))


def storages_of(cells: Iterable[CellSummary]) -> tuple[str, ...]:
    """Return the storages: conflict models in their order, then what else there is."""
    names = {summary.cell.storage for summary in cells}
    return tuple(sorted(names, key=lambda name: (_place_in(_MODELS, name), name)))


def word_for(storages: Iterable[str]) -> str:
    """Return what storages of these names are called."""
    return "conflict model" if set(storages) <= set(_MODELS) else "storage"


def _group(place: Place, cells: Sequence[CellSummary], policies: Sequence[str]) -> Group:
    own = {summary.cell.policy for summary in cells}
    return Group(
        place,
        tuple(policy for policy in policies if policy in own),
        storages_of(cells),
        {(summary.cell.policy, summary.cell.storage): summary for summary in cells},
    )


def _place_in(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
