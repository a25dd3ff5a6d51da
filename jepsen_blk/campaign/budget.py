"""Which run comes next: no more of a cell that is decided, and what that saves for those that are not.

A cell's runs come in batches, seed after seed: a first look, then up to as many as before. A cell is looked
at when a whole batch has come, so what is decided, and which seeds are run, does not depend on how many runs
go on at once or on who is fastest.

    unsafe    so many runs failed (stop.failures). A failed run is proof by itself; the others say that it is
              no rare case, and of what kind it is.
    unknown   of so many runs none could be judged (stop.unknowns), so no more are wasted on it.
    safe      all runs that were asked for passed: one fewer would say less, so nothing ends this early.

A cell that is none of these has up to as many runs again, of those that the decided ones have left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from jepsen_blk.campaign.matrix import Matrix, Stopping
from jepsen_blk.campaign.summary import Judgement
from jepsen_blk.errors import SpecError
from jepsen_blk.spec import Verdict

_CODES: dict[Verdict, int] = {"pass": 1, "fail": 2, "unknown": 3}
_FIRST_LOOK = 5
_MOST_TIMES = 2
"""An undecided cell has so many times the runs that were asked for, at most."""


def judge(passed: int, failed: int, unknown: int, asked: int) -> Judgement:
    """Say what a cell's runs show."""
    if failed:
        return "unsafe"
    if unknown and not passed:
        return "unknown"
    return "safe" if passed >= asked and not unknown else "undecided"


def why_decided(passed: int, failed: int, unknown: int, asked: int, stop: Stopping) -> str:
    """Say why a cell needs no more runs; nothing if it does."""
    ran = passed + failed + unknown
    enough = ran >= asked
    if failed >= stop.failures and (stop.early or enough):
        return f"unsafe: {failed} of {ran} runs failed, and {stop.failures} decide it"
    if unknown == ran >= stop.unknowns and (stop.early or enough):
        return f"unknown: none of {ran} runs could be judged, and after {stop.unknowns} it is given up"
    if enough and judge(passed, failed, unknown, asked) == "safe":
        return f"safe: all {ran} runs passed, as many as were asked for"
    return ""


@dataclass(slots=True, eq=False)
class Course:
    """The runs of one cell: a byte a seed, and how far they are."""

    number: int
    """Which cell of the comparison it is."""
    allowed: int
    """So many seeds it may have."""
    verdicts: bytearray
    end: int = 0
    """Seeds before this one are in batches that were begun."""
    flying: int = 0
    handed_out: bool = False
    """All of the batch is on its way or has come."""
    decided: str = ""
    _next: int = 0

    def counts(self) -> tuple[int, int, int]:
        """Return how many of the batches' runs passed, failed and are unknown."""
        seen = self.verdicts[: self.end]
        return seen.count(1), seen.count(2), seen.count(3)

    def next_seed(self) -> int | None:
        """Return the batch's next seed that has no row yet; None at its end."""
        while self._next < self.end:
            seed, self._next = self._next, self._next + 1
            if not self.verdicts[seed]:
                self.flying += 1
                return seed
        return None


@dataclass
class Budget:
    """Hands out runs as (number of the cell, seed), and takes their verdicts."""

    matrix: Matrix
    cells: int
    courses: list[Course] = field(init=False)
    _ready: deque[Course] = field(init=False)
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        """Share out what there is: `seeds` a cell, or less where `runs` is not enough for that."""
        asked = self.matrix.seeds
        self._left = self.matrix.runs or asked * self.cells
        each = min(asked, self._left // self.cells)
        if not each:
            raise SpecError(f"runs: {self._left} is less than one for each of the {self.cells} cells")
        room = asked * _MOST_TIMES
        self.courses = [Course(number, each, bytearray(room)) for number in range(self.cells)]
        self._ready = deque()

    def know(self, number: int, seed: int, verdict: Verdict) -> None:
        """Take a row of an earlier time."""
        verdicts = self.courses[number].verdicts
        if seed < len(verdicts):
            verdicts[seed] = _CODES[verdict]

    def begin(self) -> None:
        """Begin, once all is known that was known before."""
        for course in self.courses:
            self._go_on(course)
        self._share_rest()

    def next(self) -> tuple[int, int] | None:
        """Return the next run; None if there is none, for now or at all."""
        while self._ready:
            course = self._ready[0]
            seed = course.next_seed()
            if seed is not None:
                return course.number, seed
            self._ready.popleft()
            course.handed_out = True
            self._look(course)
        return None

    def take(self, number: int, seed: int, verdict: Verdict) -> None:
        """Take the verdict of a run that was handed out."""
        course = self.courses[number]
        course.verdicts[seed] = _CODES[verdict]
        course.flying -= 1
        self._look(course)

    def most_left(self) -> int:
        """Return how many runs may come yet, at most, but for those that undecided cells get on top."""
        return sum(
            course.verdicts.count(0, 0, course.allowed) for course in self.courses if not course.decided
        )

    def _look(self, course: Course) -> None:
        """Decide or go on, if the cell's batch is handed out and all of it has come."""
        if course.handed_out and not course.flying:
            self._go_on(course)
            self._share_rest()

    def _go_on(self, course: Course) -> None:
        while not course.decided:
            if course.end:
                course.decided = why_decided(*course.counts(), self.matrix.seeds, self.matrix.stop)
            if course.decided or course.end >= course.allowed:
                return
            course.end = min(course.allowed, course.end * 2 or _FIRST_LOOK)
            course.handed_out = False
            if course.verdicts.find(0, 0, course.end) >= 0:
                self._ready.append(course)
                return

    def _share_rest(self) -> None:
        """When no cell goes on, let the undecided ones have what the others did not need, in equal parts."""
        while not self._ready and not any(course.flying for course in self.courses):
            left = self._left - sum(course.end for course in self.courses)
            open_ones = [course for course in self.courses if self._could_use_more(course)]
            if left < len(open_ones) or not open_ones:
                return
            for course in open_ones:
                course.allowed = min(len(course.verdicts), course.allowed + left // len(open_ones))
                self._go_on(course)

    def _could_use_more(self, course: Course) -> bool:
        return not course.decided and course.allowed < len(course.verdicts)
