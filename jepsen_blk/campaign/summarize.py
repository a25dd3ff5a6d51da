"""From the rows on disk to what is said of each cell: one pass over the file, a bounded tally a cell."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jepsen_blk.campaign.budget import judge
from jepsen_blk.campaign.cells import Planned
from jepsen_blk.campaign.rows import Cell, Row
from jepsen_blk.campaign.sketch import Percentiles
from jepsen_blk.campaign.statistics import share
from jepsen_blk.campaign.summary import CellSummary, Cost
from jepsen_blk.spec import HandoffPolicy, Verdict

_MOST_WHYS = 20
_OTHER = "other reasons"


@dataclass(frozen=True, slots=True)
class Part:
    """A cell of the comparison: the rows of its seeds before `end` count, and why it needs no more."""

    planned: Planned
    end: int
    decided: str


@dataclass(slots=True)
class _Tally:
    """What is kept of a cell's rows, however many there are."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    whys: Counter[str] = field(default_factory=Counter)
    migrations: int = 0
    in_flight: int = 0
    reissues: int = 0
    indeterminate: int = 0
    blackouts: Percentiles = field(default_factory=Percentiles)
    p50s: Percentiles = field(default_factory=Percentiles)
    p99s: Percentiles = field(default_factory=Percentiles)
    rates: Percentiles = field(default_factory=Percentiles)
    kept: dict[Verdict, tuple[int, str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.verdicts[row.verdict] += 1
        self.kinds.update(kind for kind, count in row.anomalies.items() if count)
        if row.verdict == "unknown":
            why = row.error or next(iter(row.reasons), "no reason was given")
            self.whys[why if why in self.whys or len(self.whys) < _MOST_WHYS else _OTHER] += 1
        self.migrations += row.migrations
        self.in_flight += row.in_flight
        self.reissues += row.reissues
        self.indeterminate += row.indeterminate
        for value in row.blackouts_ms:
            self.blackouts.add(value)
        if row.latencies_ms is not None:
            self.p50s.add(row.latencies_ms[0])
            self.p99s.add(row.latencies_ms[1])
        if row.ops_per_s:
            self.rates.add(row.ops_per_s)
        if row.run:
            found = (row.seed, row.run)
            self.kept[row.verdict] = min(self.kept.get(row.verdict, found), found)

    def folder(self, verdict: Verdict) -> str:
        return self.kept.get(verdict, (0, ""))[1]


def summarize(rows: Iterable[Row], parts: Sequence[Part], asked: int, folder: Path) -> list[CellSummary]:
    """Return a summary a cell, in the order of `parts`.

    `asked` is how many runs a cell was to have, `folder` the comparison's. The latencies and the throughput
    of a cell are those of its median run.
    """
    known = {part.planned.cell: part for part in parts}
    tallies = {part.planned.cell: _Tally() for part in parts}
    for row in rows:
        part = known.get(row.cell)
        if part and row.spec == part.planned.digest and row.seed < part.end:
            tallies[row.cell].add(row)
    return [_summary(part, tallies, asked, folder) for part in parts]


def _summary(part: Part, tallies: dict[Cell, _Tally], asked: int, folder: Path) -> CellSummary:
    cell = part.planned.cell
    tally = tallies[cell]
    passed, failed, unknown = (tally.verdicts[verdict] for verdict in ("pass", "fail", "unknown"))
    judged = passed + failed
    example = tally.folder("fail") or tally.folder("pass")
    return CellSummary(
        cell=cell,
        judgement=judge(passed, failed, unknown, asked),
        decided=part.decided,
        runs=judged + unknown,
        failed=share(failed, judged),
        kinds={kind: share(count, judged) for kind, count in sorted(tally.kinds.items())},
        unknown=unknown,
        why_unknown=dict(tally.whys.most_common()),
        migrations=tally.migrations,
        in_flight=tally.in_flight,
        reissues=tally.reissues,
        indeterminate=tally.indeterminate,
        cost=_cost(tally, tallies.get(_baseline(cell))),
        failing=tally.folder("fail"),
        passing=tally.folder("pass"),
        repeat=f"jepsen-blk replay {shlex.quote(str(folder / example))}" if example else "",
    )


def _baseline(cell: Cell) -> Cell:
    return Cell(cell.lab, cell.frontend, cell.storage, HandoffPolicy.REQUEUE.value, cell.nemesis)


def _cost(tally: _Tally, baseline: _Tally | None) -> Cost:
    latency, rate = tally.p50s.at(50), tally.rates.at(50)
    return Cost(
        blackout_p50_ms=tally.blackouts.at(50),
        blackout_p99_ms=tally.blackouts.at(99),
        latency_p50_ms=latency,
        latency_p99_ms=tally.p99s.at(50),
        ops_per_s=rate,
        latency_overhead=_ratio(latency, baseline.p50s.at(50) if baseline else None),
        throughput_overhead=_ratio(rate, baseline.rates.at(50) if baseline else None),
    )


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else round(value / of, 3)
