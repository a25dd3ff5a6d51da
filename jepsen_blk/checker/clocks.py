"""Several clocks: what an operation's times may have been where its boot's clock is not quite known.

An operation counts as running from start - E to finish + E. So two operations are ordered only if they
are under every error of the clocks, and a contradiction that remains is one. Only the judgement is widened:
the history, and the lines that a result names, stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jepsen_blk.history.record import PENDING, History


def uncertainty_ns(history: History, boot: int) -> int:
    """Return how far the times of this boot may be off; of several clock lines the greatest counts."""
    return max((clock.uncertainty_ns for clock in history.clocks if clock.boot == boot), default=0)


def widen(history: History) -> History:
    """Return the history with each operation as long as its clock allows, from 0 to PENDING at most.

    Cutting at 0 changes no order, since nothing finishes before. Fences and crashes stay: they are the
    reference that the clocks are uncertain against.
    """
    if not any(clock.uncertainty_ns for clock in history.clocks):
        return history
    start, finish = history.start.copy(), history.finish.copy()
    for boot in {clock.boot for clock in history.clocks}:
        uncertain = uncertainty_ns(history, boot)
        own = history.boot == boot
        start[own] = np.maximum(start[own] - uncertain, 0)
        finish[own] = np.minimum(finish[own], PENDING - uncertain) + uncertain
    return replace(history, start=start, finish=finish)
