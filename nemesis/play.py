"""Playing a plan: each fault at its time, and none after its part of the schedule is over.

A part that is bounded by time ends with the fault under way, which is taken to its end: a fault that is cut
off proves nothing. What has no such bound is cut off at the time limit, and that is a doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from nemesis.catalogue import make_fault
from nemesis.fault import Stage, run_fault
from nemesis.plan import Plan

_SLACK_S = 0.1
"""A fault that fills its part exactly is not too late because the clock has moved on by a little."""


async def play(plan: Plan, stage: Stage, end: asyncio.Event, name: str, limit_s: float) -> None:
    """Play the plan, or let the workload run alone for `limit_s`, until `end` at most; the events say how.

    Raises LabError when the guest has ended.
    """
    try:
        async with asyncio.timeout(None) as limit, _ending(limit, end):
            late = await _play_steps(plan, stage, name, limit_s)
    except TimeoutError:
        if end.is_set():
            stage.events.emit("schedule", name, "stopped", why="at the first anomaly")
            return
        late = 0
        _doubt(stage, name, f"the schedule was cut off by time_limit_s = {limit_s:g}")
    if late:
        why = f"no time was left for {late} of {len(plan.steps)} planned faults"
        stage.events.emit("schedule", name, "done", why=why)
    else:
        stage.events.emit("schedule", name, "done")


async def _play_steps(plan: Plan, stage: Stage, name: str, limit_s: float) -> int:
    """Play what is in time and wait until all time is over; return how many faults came too late."""
    clock = asyncio.get_running_loop().time
    origin = clock()
    begun: set[float | None] = set()
    over: dict[float, float] = {}
    late = 0
    for step in plan.steps:
        now_s = clock() - origin
        begin_s = step.begin_s(now_s)
        if step.until_s is not None and (step.until_s in over or not step.fits(begin_s - _SLACK_S)):
            over.setdefault(step.until_s, now_s)
            late += 1
            continue
        begun.add(step.until_s)
        async with asyncio.timeout_at(origin + limit_s if step.until_s is None else None):
            await asyncio.sleep(origin + begin_s - clock())
            await run_fault(make_fault(step.fault, step.options), stage)
            await stage.require_alive()
    for until_s, now_s in over.items():
        if until_s not in begun:
            why = f"what came before took until {now_s:.1f} s"
            _doubt(stage, name, f"no fault of the schedule's part until {until_s:g} s was begun: {why}")
    await asyncio.sleep(origin + (plan.lasts_s if plan.steps else limit_s) - clock())
    return late


def _doubt(stage: Stage, name: str, why: str) -> None:
    stage.events.emit("test", name, "doubt", why=why)


@contextlib.asynccontextmanager
async def _ending(limit: asyncio.Timeout, end: asyncio.Event) -> AsyncIterator[None]:
    """Let the time be over when `end` comes, if it is not by then."""

    async def wait() -> None:
        await end.wait()
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    waiting = asyncio.create_task(wait())
    try:
        yield
    finally:
        waiting.cancel()
