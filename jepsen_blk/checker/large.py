"""The check of a history that does not fit in memory: exact, in windows read from disk.

1. A survey of the whole says what windows must be promised (survey.py).
2. The windows are judged under the strictest deadline (engine.py), around each block that raises an alarm.
   A block without alarm is clean under every deadline.
3. The operations of the blocks with alarms are read again, as a history of their own, and judged in memory
   as ever: that says which deadlines they fail, the kinds of damage, and the witnesses. With them come the
   other operations that their judgement depends on: the writes whose value several writes have, and those
   whose value a read of another block returned.

Where these operations do not fit either, windows decide the other deadlines too, each among the blocks that
the stricter one left, and only the blocks with the fewest operations are looked at for anomalies; a reason
says how many are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from jepsen_blk.checker.clocks import widen
from jepsen_blk.checker.durability import judge
from jepsen_blk.checker.ends import Ends
from jepsen_blk.checker.engine import choose_engine, choose_windows
from jepsen_blk.checker.open_clusters import Bools
from jepsen_blk.checker.survey import Survey, telling
from jepsen_blk.checker.verdict import Result, conclude, doubts_of, fails_under
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.parts import Parts
from jepsen_blk.history.record import F, History, Int64s
from jepsen_blk.history.rows import concatenate, lines, select


@dataclass(frozen=True, slots=True)
class Sifted:
    """What windows found under one deadline, by place of the survey's blocks: those with an alarm, those not
    read after their last acknowledged write, and the number of operations of each; `most_kept` clusters were
    open at once.
    """

    bad: Bools
    unread: Int64s
    ops: Int64s
    most_kept: int


def check_large(parts: Parts, survey: Survey, deadline: Deadline, most_rows: int) -> Result:
    """Judge a surveyed history without power losses, holding at most about so many rows.

    Raises UserError if more clusters than that are open at once, and what reading the history raises.
    """
    sifted = sift(parts, survey, Deadline.ERROR, most_rows)
    tally = survey.tally
    written = tally.writes + len(survey.adopted) > 0
    unread = survey.blocks.keys(sifted.unread)
    doubts = [*doubts_of(tally.ops, written, tally.looked > 0, unread)]
    bad = {Deadline.ERROR: sifted.bad}
    fits = int(sifted.ops[sifted.bad].sum()) + len(survey.twice) <= most_rows
    if not fits:
        for laxer in (Deadline.FENCE, Deadline.NEVER):
            sifted = sift(parts, survey, laxer, most_rows, sifted.bad)
            bad[laxer] = sifted.bad
    chosen = bad[Deadline.ERROR] if fits else _shortest(sifted, bad[deadline], most_rows)
    history = widen(_gather(parts, survey, chosen))
    engine = choose_engine(history)
    judged = judge(history, deadline, engine)
    if fits:
        return conclude(judged, deadline, fails_under(judged, deadline, engine), tally.ops, doubts)
    fails = {other: bool(found.any()) or len(survey.twice) > 0 for other, found in bad.items()}
    result = conclude(judged, deadline, fails, tally.ops, doubts)
    left_out = int(np.count_nonzero(bad[deadline] & ~chosen))
    why = f"{left_out} more blocks have anomalies, but their operations do not fit in memory"
    return replace(result, reasons=(*result.reasons, why)) if left_out else result


def sift(
    parts: Parts, survey: Survey, deadline: Deadline, most_rows: int, among: Bools | None = None
) -> Sifted:
    """Judge all windows under one deadline; `among` (blocks,) tells which blocks to judge."""
    good = np.ones(survey.blocks.size, dtype=np.bool_) if among is None else among.copy()
    checker = choose_windows(survey.tally.ops)(deadline, survey.marks.fences)
    ends, ops, most_kept = Ends(), np.zeros(survey.blocks.size, dtype=np.int64), 0

    def feed(rows: History, horizon_ns: int, in_flight: History | None = None) -> None:
        nonlocal most_kept
        good[checker.feed_around(_of(rows, good), horizon_ns, in_flight)] = False
        most_kept = max(most_kept, checker.kept)
        if most_kept > most_rows:
            raise UserError(
                f"{parts.name}: more than {most_rows} writes are open at once, too many for the memory there "
                "is; put the history in order of completion, or check it where there is more"
            )

    feed(_placed(survey.early, survey), 0)
    early = np.sort(lines(survey.early))
    held = _placed(survey.held, survey)
    for number, part in enumerate(parts()):
        rows = _placed(telling(part.history), survey)
        ends.note(rows)
        ops += np.bincount(rows.block, minlength=len(ops))
        known = np.isin(rows.value, survey.twice)
        known[_rows_at(early, rows)] = True
        rows = select(rows, np.flatnonzero(~known)) if known.any() else rows
        in_flight = _of(select(held, np.flatnonzero(survey.held_in > number)), good)
        feed(rows, int(survey.horizons[number]), in_flight)
    bad = ~good if among is None else among & ~good
    return Sifted(bad, ends.unread, ops, most_kept)


def _placed(history: History, survey: Survey) -> History:
    """Return the rows with the places of their blocks for numbers, under the marks of the whole history."""
    marks = survey.marks
    block = survey.blocks.places(history.block)
    return widen(replace(history, block=block, fences=marks.fences, clocks=marks.clocks))


def _of(rows: History, wanted: Bools) -> History:
    """Return the rows of the wanted blocks."""
    mine = wanted[rows.block]
    return rows if mine.all() else select(rows, np.flatnonzero(mine))


def _rows_at(early: Int64s, rows: History) -> Int64s:
    """Return the rows that stand at one of these ascending lines."""
    line = lines(rows)
    if not len(line):
        return line
    low, end = np.searchsorted(early, [line[0], line[-1] + 1])
    found = np.searchsorted(line, early[low:end])
    return np.asarray(found[line[found] == early[low:end]])


def _shortest(sifted: Sifted, blocks: Bools, most_rows: int) -> Bools:
    """Return those of these blocks with the fewest operations, as many as have at most so many together."""
    places = np.flatnonzero(blocks)
    places = places[np.argsort(sifted.ops[places], kind="stable")]
    chosen = np.zeros_like(blocks)
    chosen[places[np.cumsum(sifted.ops[places]) <= most_rows]] = True
    return chosen


def _gather(parts: Parts, survey: Survey, blocks: Bools) -> History:
    """Return the operations of these blocks in the order of the file, with all it takes to judge them."""
    wanted = replace(survey.marks, lost_tails=frozenset())
    if not blocks.any() and not len(survey.twice):
        return wanted
    rows = concatenate([*_rows_of(parts, survey, blocks, survey.twice), wanted])
    seen = rows.value[(rows.f == F.READ) & (rows.value > 0)]
    elsewhere = np.setdiff1d(seen, rows.value[rows.f == F.WRITE])
    elsewhere = elsewhere[survey.written.contain(elsewhere) | np.isin(elsewhere, survey.adopted.value)]
    if len(elsewhere):
        rows = concatenate([*_rows_of(parts, survey, np.zeros_like(blocks), elsewhere), rows])
        line = lines(rows)
        rows = select(rows, np.lexsort((np.abs(line), line < 0)))
    return rows


def _rows_of(parts: Parts, survey: Survey, blocks: Bools, values: Int64s) -> Iterator[History]:
    """Yield the operations of these blocks and the writes of these values, those in no file at last."""
    for rows in chain((part.history for part in parts()), (survey.adopted,)):
        rows = telling(rows)
        own = blocks[survey.blocks.places(rows.block)]
        own |= (rows.f == F.WRITE) & np.isin(rows.value, values)
        yield select(rows, np.flatnonzero(own))
