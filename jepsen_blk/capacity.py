"""Checking a stored history of any size: whole where it fits in memory, else in windows read from disk.

What the whole takes is estimated from the file before anything of it is read. Both ways end in the same
results, so the choice is made here, by what memory there is, and no option of the command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.checker.large import check_large
from jepsen_blk.checker.survey import survey
from jepsen_blk.checker.tally import Tally
from jepsen_blk.checker.verdict import Result, check
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import Form, Large, Notes
from jepsen_blk.history.parts import PART_ROWS, Part, Parts
from jepsen_blk.history.record import F, History
from jepsen_blk.history.rows import concatenate, lines, merge_marks, select
from jepsen_blk.history.rules import cannot_read

Say = Callable[[str], None]
Look = Callable[[History], None]
_SHARE = 0.6
"""Of the available memory, what reading and checking a whole history may take."""
_ROW_BYTES = 300
"""What a row takes that is gathered from disk and judged, or a cluster that is open."""
_TOLD_EACH = 0.05
_GIB = 1 << 30
_UNTOLD_BYTES = 2 * _GIB
_MEMINFO = Path("/proc/meminfo")


def silent(_line: str) -> None:
    """Say nothing."""


def unseen(_history: History) -> None:
    """Look at nothing."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What memory there is for a check; where a history does not fit, it is read `part_rows` at a time."""

    available_bytes: int
    part_rows: int = PART_ROWS

    @classmethod
    def of_machine(cls) -> Capacity:
        """Return what this machine has available now, or all it has where the kernel does not say.

        Where the system does not even say that, as on Windows, a little is taken to be there.
        """
        if _MEMINFO.exists():
            for line in _MEMINFO.read_text(encoding="ascii").splitlines():
                if line.startswith("MemAvailable:"):
                    return cls(1024 * int(line.split()[1]))
        if not hasattr(os, "sysconf"):
            return cls(_UNTOLD_BYTES)
        return cls(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

    @property
    def most_rows(self) -> int:
        """Rows that may be held at once when not all can be."""
        return int(_SHARE * self.available_bytes) // _ROW_BYTES

    def holds(self, need_bytes: int) -> bool:
        """Tell whether this much may be taken."""
        return need_bytes <= _SHARE * self.available_bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """A stored history's result, its counts, the boots with a lost tail, and what reading it said."""

    result: Result
    tally: Tally
    lost_tails: frozenset[int]
    doubts: Notes
    notes: Notes


def check_stored(
    path: Path,
    form: Form,
    deadline: Deadline,
    capacity: Capacity | None = None,
    say: Say = silent,
    look: Look = unseen,
) -> Checked:
    """Check a file; `say` is told how far a check from disk is. `capacity`: None for the machine's.

    `look` is shown every operation once, in one history or in parts of it, before it is judged.

    Raises HistoryError on a malformed file, UserError if not even the windows fit.
    """
    capacity = capacity or Capacity.of_machine()
    large = form.large
    if large is None or capacity.holds(_need_bytes(path, large)):
        return _check_whole(path, form, deadline, look)
    parts = _StoredParts(path, large, capacity.part_rows, say, look)
    surveyed = survey(parts)
    if surveyed.marks.crashes:
        _require_memory(path, large, capacity.available_bytes, "a history with a power loss is checked whole")
        return _check_whole(path, form, deadline, unseen)
    if surveyed.again and large.written_again:
        value, line = surveyed.again
        raise large.written_again(path, value, line, _first_line(parts, value))
    result = check_large(parts, surveyed, deadline, capacity.most_rows)
    return Checked(result, surveyed.tally, surveyed.marks.lost_tails, surveyed.doubts, ())


def require_whole(path: Path, form: Form, capacity: Capacity | None = None) -> None:
    """Raise UserError if a file is too large for what needs all of it in memory."""
    available = (capacity or Capacity.of_machine()).available_bytes
    if form.large is not None:
        _require_memory(path, form.large, available, "a certificate is made of the whole history")


def read_around(
    path: Path, form: Form, anomalies: list[Mapping[str, Any]], capacity: Capacity | None = None
) -> History:
    """Return a file's history: all of it if it fits, else these anomalies' blocks and operations."""
    capacity = capacity or Capacity.of_machine()
    large = form.large
    if large is None or capacity.holds(_need_bytes(path, large)):
        return form.read(path).history
    blocks = np.array([anomaly["block"] for anomaly in anomalies], dtype=np.int64)
    named = np.array([line for anomaly in anomalies for line in anomaly["ops"]], dtype=np.int64)
    found: list[History] = []
    for part in large.parts(path, capacity.part_rows):
        rows = part.history
        near = (np.isin(rows.block, blocks) & (rows.f != F.FLUSH)) | np.isin(lines(rows), named)
        marks = merge_marks(found[-1], rows) if found else rows
        found.append(merge_marks(select(rows, np.flatnonzero(near)), marks))
    return concatenate(found)


def _check_whole(path: Path, form: Form, deadline: Deadline, look: Look) -> Checked:
    stored = form.read(path)
    history = stored.history
    look(history)
    result = check(history, deadline)
    return Checked(result, Tally.of(history), history.lost_tails, stored.doubts, stored.notes)


def _need_bytes(path: Path, large: Large) -> int:
    try:
        return large.need_bytes(path)
    except OSError as error:
        raise cannot_read(path, error) from error


def _require_memory(path: Path, large: Large, available_bytes: int, why: str) -> None:
    need_bytes = _need_bytes(path, large)
    if need_bytes > available_bytes:
        raise UserError(
            f"{path}: {why}, which takes about {need_bytes / _GIB:.1f} GiB of memory, and "
            f"{available_bytes / _GIB:.1f} GiB are available; do it on a larger machine"
        )


def _first_line(parts: Parts, value: int) -> int:
    """Return the first line that writes a value; there is one."""
    writes = ((part.history, part.history.f == F.WRITE) for part in parts())
    found = (lines(history)[write & (history.value == value)] for history, write in writes)
    return int(next(line[0] for line in found if len(line)))


@dataclass(slots=True)
class _StoredParts:
    """The parts of a file; each time they are read is a pass, of which is told how far it is.

    They are shown to `look` in the first pass.
    """

    path: Path
    large: Large
    rows: int
    say: Say
    look: Look
    passes: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        return str(self.path)

    def __call__(self) -> Iterator[Part]:
        self.passes += 1
        begin, ops, told = time.monotonic(), 0, 0.0
        for part in self.large.parts(self.path, self.rows):
            if self.passes == 1:
                self.look(part.history)
            yield part
            ops += len(part.history)
            if part.share >= told + _TOLD_EACH:
                told = part.share
                rate = ops / 1e6 / max(time.monotonic() - begin, 1e-9)
                self.say(
                    f"{self.path}: larger than memory, pass {self.passes}: {told:.0%}, "
                    f"{rate:.1f} million operations a second"
                )
