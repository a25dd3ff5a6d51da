"""What a batch check hands on, whichever engine ran: every engine must find exactly the same."""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_blk.errors import HistoryError
from jepsen_blk.history.record import Int64s

READ_KINDS = ("torn", "foreign", "misdirected", "aborted-read", "future-read", "phantom")
"""Kinds of reads that are bad by themselves."""
NEVER = -1
"""Time of what did not happen."""
LONGEST_NS = 1 << 61


@dataclass(frozen=True, slots=True)
class Findings:
    """What contradicts an atomic register; `bad_reads`, `conflicts` and `twice` empty: nothing does.

    `bad_reads` maps each of READ_KINDS that was found, in that order, to rows of reads. `conflicts` holds
    the blocks in which two clusters must each precede the other, `twice` the rows of writes whose value
    another write has too, `unread` the blocks with an acknowledged write that no read came after.
    `seen_open`: a read saw an indeterminate write, so the deadline matters.
    """

    bad_reads: dict[str, Int64s]
    conflicts: Int64s
    twice: Int64s
    unread: Int64s
    seen_open: bool


def require_one_clock(first_ns: int, last_ns: int) -> None:
    """Raise HistoryError if the first and the last moment of a history are more than 73 years apart."""
    if last_ns - first_ns >= LONGEST_NS:
        raise HistoryError("the history's times span more than 73 years; use one clock for all of them")
