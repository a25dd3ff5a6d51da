"""A small comparison on the simulator, and stand-ins for the seams of the campaign engine."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from jepsen_blk.campaign.budget import Budget, Course
from jepsen_blk.campaign.cells import Planned, Skipped, plan_cells
from jepsen_blk.campaign.matrix import Matrix, make_matrix
from jepsen_blk.campaign.rowfile import ROWS, read_rows
from jepsen_blk.campaign.rows import Cell, Row
from jepsen_blk.campaign.session import Comparison
from jepsen_blk.campaign.worker import Job, Made

SMALL: dict[str, Any] = {
    "name": "small",
    "seeds": 6,
    "lab": ["sim"],
    "storage": ["ignore-second"],
    "policy": ["requeue", "preempt-abort"],
    "base": {
        "workload": {"blocks": 16, "hot_blocks": 4, "queue_depth": 2},
        "storage": {"write_latency_ms": 10},
    },
}
"""One policy loses the write of the founding case on each seed, the other one on none."""
CELL = Cell("sim", "qemu", "ignore-second", "requeue", "lost-path-migration")


def comparison(folder: Path, **changes: Any) -> Comparison:
    """Return the small comparison, with changes of the matrix."""
    matrix = make_matrix(SMALL | changes)
    cells, skipped = plan_cells(matrix)
    return Comparison(matrix, cells, skipped, folder, "jepsen-blk compare small.toml")


def row(seed: int = 0, **fields: Any) -> Row:
    """Return a row of a run that passed, but for what is given."""
    made = Row(
        cell=CELL,
        seed=seed,
        spec="",
        verdict="pass",
        anomalies={},
        reasons=(),
        ops=100,
        indeterminate=0,
        migrations=1,
        in_flight=1,
        reissues=1,
        blackouts_ms=(50.0,),
        latencies_ms=(5.0, 10.0),
        ops_per_s=100.0,
        seconds=0.1,
    )
    return replace(made, **fields)


def results(folder: Path) -> list[bytes]:
    """Return the rows of a comparison in order, without what differs from one making to another."""
    rows = [replace(row, seconds=0.0, run="") for row in read_rows(folder / ROWS)]
    return sorted(msgspec.json.encode(row) for row in rows)


class Quiet:
    """Shows nothing; calls `at_row` with the number of rows so far."""

    def __init__(self, at_row: Callable[[int], None] = lambda count: None) -> None:
        self.rows: list[Row] = []
        self.decisions: list[tuple[Cell, str]] = []
        self._at_row = at_row

    def begin(
        self, matrix: Matrix, cells: Sequence[Planned], skipped: Sequence[Skipped], budget: Budget
    ) -> None:
        """Show nothing."""

    def row(self, row: Row) -> None:
        self.rows.append(row)
        self._at_row(len(self.rows))

    def decided(self, planned: Planned, course: Course) -> None:
        self.decisions.append((planned.cell, course.decided))


@dataclass
class ScriptedPool:
    """Answers each run at once as `answer` does: a row, an error, or nothing at all (None)."""

    answer: Callable[[Job], Row | BaseException | None]
    width: int = 2
    submitted: list[Job] = field(default_factory=list)
    given_up: list[Job] = field(default_factory=list)
    _jobs: dict[Future[Made], Job] = field(default_factory=dict)
    closed: threading.Event = field(default_factory=threading.Event)

    def submit(self, job: Job) -> Future[Made]:
        self.submitted.append(job)
        future: Future[Made] = Future()
        self._jobs[future] = job
        came = self.answer(job)
        if isinstance(came, BaseException):
            future.set_exception(came)
        elif came is not None:
            future.set_result(Made(came))
        return future

    def give_up(self, stuck: Any) -> None:
        self.given_up += [self._jobs[future] for future in stuck]

    def close(self) -> None:
        self.closed.set()
