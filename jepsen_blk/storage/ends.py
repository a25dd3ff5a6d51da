"""How a write of the policy target ends, and how long it takes: alike for the real target and the simulator.

Standard library only.
"""

from __future__ import annotations

import errno
from collections import Counter

from jepsen_blk.storage.conflict import Decision

ENDS: dict[Decision, tuple[str, str, int]] = {
    Decision.APPLY: ("apply", "ok", 0),
    Decision.IGNORE: ("ignore", "ok", 0),
    # NBD has no busy error, so a busy device is an I/O error on the wire.
    Decision.BUSY: ("refuse", "error", errno.EIO),
    Decision.REFUSE: ("refuse", "refused", errno.EPERM),
    Decision.ABORT: ("abort", "aborted", errno.EIO),
}
"""What a write's last decision means: action and outcome in the log, errno of the reply."""


def tally(received: int, counts: Counter[str], in_flight: int) -> dict[str, int]:
    """Return the counters of the control request `stats`, of writes by how they ended."""
    return {
        "received": received,
        "applied": counts["apply"] + counts["wait"],
        "ignored": counts["ignore"],
        "refused": counts["refused"],
        "aborted": counts["aborted"],
        "errors": counts["error"],
        "held": counts["held"],
        "in_flight": in_flight,
    }


def spread(number: int) -> float:
    """Return a factor from 1 up to 2 for the latency of write `number`, evenly spread and repeatable.

    With the same latency for all, writes that were issued together complete together: the queue fills and
    drains in step, and a migration may find it empty under full load.
    """
    return 1 + (number * 0x9E3779B1 >> 16 & 0xFFFF) / 0x10000
