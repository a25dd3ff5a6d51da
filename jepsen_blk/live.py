"""The check of a test that goes on: an anomaly is seen while it is fresh, and the test may end there.

It reads the run's own journal, so it knows nothing that is not on disk. An anomaly that it sees is final
(see checker/online.py), and a lag that was guessed too short costs time, never a false alarm (follow.py).
After a power loss of the storage nothing more is checked here.
What the anomaly is, and the verdict, are still judged from the whole run; a fault of this check is no more
than a doubt.

The guest may be emulated on the same processors, so the check rests a hundred times as long as it works.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from jepsen_blk import clock
from jepsen_blk.follow import LOST_POWER, Follower, describe
from jepsen_blk.history.events import EventLog
from jepsen_blk.report.view import View
from jepsen_blk.spec import Spec

_EVERY_S = 0.5
_SHARE = 0.01
"""Of one processor, at most."""


@contextlib.asynccontextmanager
async def checking(spec: Spec, journal: Path, events: EventLog, view: View) -> AsyncIterator[asyncio.Event]:
    """Check the journal while the block runs; what is yielded is set at the first anomaly."""
    seen = asyncio.Event()
    check = asyncio.create_task(_check(spec, Follower(journal, spec.deadline), events, view, seen))
    try:
        yield seen
    finally:
        check.cancel()
        await asyncio.wait({check})


async def _check(spec: Spec, follower: Follower, events: EventLog, view: View, seen: asyncio.Event) -> None:
    try:
        while not (follower.ended or follower.lost_power):
            took_s = await asyncio.to_thread(_look, follower)
            view.checked(follower.operations, describe(follower.alarm) if follower.alarm else "")
            if not (follower.ended or follower.lost_power):
                await asyncio.sleep(max(_EVERY_S, took_s / _SHARE))
    except Exception as error:  # whatever is wrong here, the test goes on and is judged without it
        why = f"the check of the running test failed: {error or type(error).__name__}"
        events.emit("test", spec.name, "doubt", why=why)
    alarm = follower.alarm
    if follower.lost_power and alarm is None:
        view.unchecked(follower.operations, LOST_POWER)
        until = f"{LOST_POWER} after {follower.operations} checked operations"
        events.emit("checker", "power-loss", "ended", why=f"{until}; the rest is judged at the end")
    if alarm is not None:
        events.emit("checker", "anomaly", "seen", **alarm._asdict(), why=describe(alarm))
        seen.set()


def _look(follower: Follower) -> float:
    """Check what has come; return the processor time that it took."""
    begin_s = clock.thread_time()
    follower.catch_up()
    return clock.thread_time() - begin_s
