"""Checking a run while its journal is written: damage is told at once, not after days.

The test itself does so (live.py), and whoever follows a run of another process.

The journal names an operation when it has completed, so what is in flight is not known. The horizon is
therefore a guess: no operation takes longer than a lag. One that did shows itself, since it begins before
a horizon that has passed; then the journal, which has everything, is read again from its beginning with
a lag four times as long. So the guess costs time when it was wrong, never exactness.

What a power loss of the storage may have taken is known only from the whole of what follows (durability.py),
so the check ends there, and the batch check judges the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from jepsen_blk.checker.engine import choose_windows
from jepsen_blk.checker.online import Alarm
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.journal import JournalTail
from jepsen_blk.history.record import PENDING, ROW, F, Fence, History, Outcome
from jepsen_blk.judge import JOURNAL, SPEC
from jepsen_blk.spec import load_stored_spec
from jepsen_blk.store import find_run

LOST_POWER = "the storage lost power"
FIRST_LAG_NS = 2_000_000_000
_EVERY_S = 1.0


class Follower:
    """Checks a journal part by part; `ended`: it was closed, or an anomaly was found.

    `lost_power`: the storage has, so blocks may have older contents now, and what came since is not checked.
    """

    def __init__(self, journal: Path, deadline: Deadline, lag_ns: int = FIRST_LAG_NS) -> None:
        self._journal = journal
        self._deadline = deadline
        self._fences: set[Fence] = set()
        self._begin(lag_ns)

    def _begin(self, lag_ns: int) -> None:
        self._lag_ns = lag_ns
        self._tail = JournalTail(self._journal)
        self._checker = choose_windows(self._size())(self._deadline, self._fences)
        self._ended_boots: set[int] = set()
        self._newest_ns = self._horizon_ns = 0
        self.lost_power = False

    def _size(self) -> int:
        """Return about how many operations the journal has so far."""
        return self._journal.stat().st_size // ROW.itemsize if self._journal.exists() else 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to follow."""
        return self._tail.closed or bool(self._checker.alarms)

    @property
    def alarm(self) -> Alarm | None:
        """The first anomaly."""
        return self._checker.alarms[0] if self._checker.alarms else None

    @property
    def operations(self) -> int:
        """Number of operations checked."""
        return self._checker.ops

    @property
    def lag_ns(self) -> int:
        """The longest that an operation is taken to last, as of now."""
        return self._lag_ns

    def catch_up(self) -> bool:
        """Take in all that came since the last call, up to the first anomaly; False if nothing did.

        Raises HistoryError as read_journal does.
        """
        news = False
        while not self.ended and self.step():
            news = True
        return news

    def step(self) -> bool:
        """Take in a part of what came since the last step; False if nothing did.

        Raises HistoryError as read_journal does.
        """
        part = self._tail.read()
        if not len(part.history) and not part.notes:
            return False
        if self.lost_power:
            return True
        fences = set(part.history.fences) - self._fences
        self._fences |= fences
        if self._is_late(part.history) or any(fence.time_ns < self._horizon_ns for fence in fences):
            self._begin(4 * self._lag_ns)
            return True
        for fence in fences:
            self._checker.fence(fence)
        for boot in part.history.lost_tails - self._ended_boots:
            self._checker.open_boot(boot)
        self._feed(part.history)
        for note in part.notes:
            if note["note"] == "bye":
                self._ended_boots.add(note["boot"])
                self._checker.end_boot(note["boot"])
        self.lost_power = bool(part.history.crashes)
        return True

    def _feed(self, rows: History) -> None:
        done = rows.finish[rows.finish != PENDING]
        self._newest_ns = max(self._newest_ns, int(done.max(initial=0)))
        self._horizon_ns = max(self._horizon_ns, self._newest_ns - self._lag_ns)
        self._checker.feed(rows, self._horizon_ns)

    def _is_late(self, rows: History) -> bool:
        """Tell whether an operation breaks the promise of an earlier horizon.

        An acknowledged write that nobody read may have begun whenever it did: it cannot contradict what
        was over before it ended.
        """
        late = rows.start < self._horizon_ns
        if not late.any():
            return False
        harmless = (rows.f == F.WRITE) & (rows.outcome == Outcome.OK) & (rows.finish >= self._horizon_ns)
        harmless &= ~self._checker.awaits(rows.value)
        dropped = (rows.f == F.FLUSH) | ((rows.f == F.READ) & (rows.outcome != Outcome.OK))
        return bool((late & ~harmless & ~dropped).any())

    def progress(self) -> str:
        """Return a line for people."""
        said = describe(self.alarm) if self.alarm else "no anomaly so far"
        if self.lost_power and not self.alarm:
            said = f"no anomaly until {LOST_POWER}; the rest is judged when the run is over"
        return f"{self.operations} operations checked, {self._checker.blocks} blocks, {said}"


def follow_path(
    path: Path,
    deadline: Deadline | None,
    say: Callable[[str], None],
    wait: Callable[[], None] = lambda: time.sleep(_EVERY_S),
) -> None:
    """Follow a run's journal until it is closed or shows an anomaly; `wait` comes between looks at it.

    Raises UserError if `path` is neither a run nor a journal, HistoryError if the journal is damaged.
    """
    follower = Follower(*_journal_of(path, deadline))
    said = ""
    while not follower.ended:
        if follower.catch_up() and said != follower.progress():
            said = follower.progress()
            say(said)
        if not follower.ended:
            wait()


def _journal_of(path: Path, deadline: Deadline | None) -> tuple[Path, Deadline]:
    if path.is_dir():
        run = find_run(path)
        return run / JOURNAL, deadline or load_stored_spec(run / SPEC).deadline
    if path.suffix != ".blk":
        raise UserError(f"{path}: --follow needs a run directory or a journal (.blk)")
    return path, deadline or Deadline.FENCE


def describe(alarm: Alarm) -> str:
    """Name an anomaly by what is known of it while the run goes on."""
    return f"{alarm.kind} on block {alarm.block}"
