"""Until when an indeterminate write may take effect: the one place where the deadlines differ.

An indeterminate write (an error, a time-out, a dead guest) has no finish of its own. Jepsen lets it
land for ever; a fence or the error itself can close it. Closing gives the write a finish and leaves
it optional: if no read ever saw it, it need not have happened.
"""

from __future__ import annotations

import numpy as np

from jepsen_blk.checker.clocks import uncertainty_ns
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING, History, Int64s


def closing_times(history: History, rows: Int64s, deadline: Deadline) -> Int64s:
    """Return, for the rows of indeterminate writes, when each is closed, in ns, or PENDING.

    `fence`: at the first fence of its boot after its start (one at its start is concurrent). `error`: at
    its own finish, or at that fence if it comes first, so that each deadline is at least as strict as the
    one before. The starts are those of clocks.widen, the earliest possible: where the boot's clock is
    uncertain, only a fence after the latest possible start closes a write.
    """
    closing = np.full(len(rows), PENDING, dtype=np.int64)
    if deadline is Deadline.NEVER:
        return closing
    boots = history.boot[rows]
    starts = history.start[rows]
    for boot in {fence.boot for fence in history.fences}:
        fences = [fence.time_ns for fence in history.fences if fence.boot == boot]
        times = np.sort(np.array(fences, dtype=np.int64))
        own = np.flatnonzero(boots == boot)
        sure = times - 2 * uncertainty_ns(history, boot)
        closing[own] = np.append(times, PENDING)[np.searchsorted(sure, starts[own], side="right")]
    if deadline is Deadline.ERROR:
        closing = np.minimum(closing, history.finish[rows])
    return closing
