"""Makes the runs of a comparison: a few in flight, a row on disk for each; the trouble of one is no other's.

    budget -> job -> pool -> row on disk (and its folder, if it is the first of its verdict) -> budget

A run whose worker is lost is made again, alone, so that it cannot take others along, and after a few times is
a row that says so; one that never answers is given up at once. Memory does not grow with the runs: of each,
the budget has a byte.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from jepsen_blk.campaign.budget import Budget, Course
from jepsen_blk.campaign.cells import Planned
from jepsen_blk.campaign.pools import Pool
from jepsen_blk.campaign.rowfile import RowFile
from jepsen_blk.campaign.rows import Row
from jepsen_blk.campaign.worker import Job, Made, failed_row
from jepsen_blk.errors import UserError
from jepsen_blk.spec import Verdict

RUNS = "runs"
_MOST_ATTEMPTS = 3
_GRACE_S = 30.0
"""Beyond the limits of a run and of the one before it: so long a worker may take to start and to answer."""
_LOOK_EVERY_S = 1.0


class Watch(Protocol):
    """Is told how a comparison goes on."""

    def row(self, row: Row) -> None:
        """A run has ended."""

    def decided(self, planned: Planned, course: Course) -> None:
        """A cell needs no more runs."""


@dataclass(slots=True)
class _Flight:
    """A run that is under way, and the time at which it is overdue."""

    number: int
    job: Job
    overdue_s: float
    attempts: int = 1


@dataclass
class Engine:
    """Makes all runs that the budget hands out; `clock` is monotonic, in seconds."""

    cells: Sequence[Planned]
    budget: Budget
    pool: Pool
    rows: RowFile
    folder: Path
    limit_s: float
    watch: Watch
    clock: Callable[[], float] = time.monotonic
    _flying: dict[Future[Made], _Flight] = field(default_factory=dict, init=False)
    _suspects: deque[_Flight] = field(default_factory=deque, init=False)
    _kept: dict[tuple[int, Verdict], int] = field(default_factory=dict, init=False)
    _told: set[int] = field(default_factory=set, init=False)

    def keep(self, number: int, row: Row) -> None:
        """Know of a folder that was kept at an earlier time."""
        if row.run:
            self._kept[number, row.verdict] = min(row.seed, self._kept.get((number, row.verdict), row.seed))

    def run(self) -> None:
        """Make the runs; raises UserError when a row cannot be written or no run can be begun."""
        self._tell_decided()
        while self._fill():
            done, _ = wait(self._flying, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            for future in [
                future for future in self._flying if future in done
            ]:  # in the order of their begin
                self._land(future)
            self._give_up_overdue()
            self._tell_decided()

    def _fill(self) -> bool:
        """Begin as many runs as may be under way; tell whether any is."""
        if self._suspects:
            if not self._flying:
                self._begin(self._suspects.popleft())
            return True
        while len(self._flying) < 2 * self.pool.width and (following := self.budget.next()):
            number, seed = following
            planned = self.cells[number]
            verdicts: tuple[Verdict, ...] = ("pass", "fail", "unknown")
            keep = frozenset(
                verdict for verdict in verdicts if seed < self._kept.get((number, verdict), seed + 1)
            )
            spec = planned.spec.model_copy(update={"seed": seed})
            self._begin(_Flight(number, Job(planned.cell, spec, planned.digest, keep, self.limit_s), 0.0))
        return bool(self._flying)

    def _begin(self, flight: _Flight) -> None:
        flight.overdue_s = self.clock() + 2 * self.limit_s + _GRACE_S  # it may wait for one before it
        self._flying[self.pool.submit(flight.job)] = flight

    def _land(self, future: Future[Made]) -> None:
        flight = self._flying.pop(future)
        try:
            made = future.result()
        except (Exception, CancelledError) as error:  # only a lost worker's future has one
            self._lost(flight, str(error) or type(error).__name__)
            return
        self._record(flight, self._unpack(flight, made))

    def _lost(self, flight: _Flight, why: str) -> None:
        if flight.attempts >= _MOST_ATTEMPTS:
            said = f"its worker was lost {flight.attempts} times: {why}"
            self._record(flight, failed_row(flight.job, said, 0.0))
            return
        flight.attempts += 1
        self._suspects.append(flight)

    def _give_up_overdue(self) -> None:
        now_s = self.clock()
        stuck = [future for future, flight in self._flying.items() if flight.overdue_s <= now_s]
        if not stuck:
            return
        self.pool.give_up(stuck)
        waited_s = 2 * self.limit_s + _GRACE_S
        for future in stuck:
            flight = self._flying.pop(future)
            why = f"its worker did not answer in {waited_s:g} s; it was given up"
            self._record(flight, failed_row(flight.job, why, waited_s))
        for flight in self._flying.values():  # what is lost with them is not at fault
            flight.attempts -= 1

    def _unpack(self, flight: _Flight, made: Made) -> Row:
        """Keep the folder of a run, if it is the first of its cell with this verdict as far as is known."""
        row, key = made.row, (flight.number, made.row.verdict)
        if not made.archive or row.seed >= self._kept.get(key, row.seed + 1):
            return row
        cell = row.cell
        name = "_".join((cell.lab, cell.frontend, cell.storage, cell.policy, cell.nemesis))
        run = Path(RUNS) / name / f"{row.verdict}-seed-{row.seed}"
        try:
            shutil.rmtree(self.folder / run, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(made.archive)) as tar:
                tar.extractall(self.folder / run, filter="data")
        except OSError as error:
            shutil.rmtree(self.folder / run, ignore_errors=True)
            said = f"{self.folder / run}: cannot write: {error.strerror}"
            raise UserError(f"{said}; make room, and the same command goes on") from error
        self._kept[key] = row.seed
        return replace(row, run=str(run))

    def _record(self, flight: _Flight, row: Row) -> None:
        self.rows.append(row)
        self.budget.take(flight.number, row.seed, row.verdict)
        self.watch.row(row)

    def _tell_decided(self) -> None:
        for course in self.budget.courses:
            if course.decided and course.number not in self._told:
                self._told.add(course.number)
                self.watch.decided(self.cells[course.number], course)
