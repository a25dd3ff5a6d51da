"""Playing a plan: each fault at its time, and none after its part of the schedule is over.

What comes during a fault is played as its dwelling, once it is proven. So whatever ends it, an end in order,
an error or a cancellation, comes from the inside out, and the inner ones are healed first.

A part that is bounded by time ends with the fault under way, which is taken to its end: a fault that is cut
off proves nothing. What has no such bound is cut off at the time limit, and that is a doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence

from nemesis.catalogue import make_fault
from nemesis.fault import Stage, run_fault
from nemesis.plan import Plan, Step

_SLACK_S = 0.1
"""A fault that fills its part exactly is not too late because the clock has moved on by a little."""


async def play(plan: Plan, stage: Stage, end: asyncio.Event, name: str, limit_s: float) -> None:
    """Play the plan, or let the workload run alone for `limit_s`, until `end` at most; the events say how.

    Raises LabError when the guest has ended.
    """
    try:
        async with asyncio.timeout(None) as limit, _ending(limit, end):
            late = await _Player(stage, name, limit_s).play(plan)
    except TimeoutError:
        if end.is_set():
            stage.events.emit("schedule", name, "stopped", why="at the first anomaly")
            return
        late = 0
        _doubt(stage, name, f"the schedule was cut off by time_limit_s = {limit_s:g}")
    if late:
        why = f"no time was left for {late} of {plan.count} planned faults"
        stage.events.emit("schedule", name, "done", why=why)
    else:
        stage.events.emit("schedule", name, "done")


class _Player:
    """Plays steps in time, and knows which parts have begun and which are over."""

    def __init__(self, stage: Stage, name: str, limit_s: float) -> None:
        self._stage = stage
        self._name = name
        self._limit_s = limit_s
        self._clock = asyncio.get_running_loop().time
        self._origin = self._clock()
        self._begun: set[float | None] = set()
        self._over: dict[float, float] = {}
        self._late = 0

    async def play(self, plan: Plan) -> int:
        """Play what is in time and wait until all time is over; return how many faults came too late."""
        for step in plan.steps:
            async with asyncio.timeout_at(self._origin + self._limit_s if step.until_s is None else None):
                await self._play_step(step)
        for until_s, now_s in self._over.items():
            if until_s not in self._begun:
                why = f"what came before took until {now_s:.1f} s"
                part = f"the schedule's part until {until_s:g} s"
                _doubt(self._stage, self._name, f"no fault of {part} was begun: {why}")
        lasts_s = plan.lasts_s if plan.steps else self._limit_s
        await asyncio.sleep(self._origin + lasts_s - self._clock())
        return self._late

    async def _play_step(self, step: Step) -> None:
        now_s = self._clock() - self._origin
        begin_s = step.begin_s(now_s)
        until_s = step.until_s
        if until_s is not None and (until_s in self._over or not step.fits(begin_s - _SLACK_S)):
            self._over.setdefault(until_s, now_s)
            self._late += step.count
            return
        self._begun.add(until_s)
        await asyncio.sleep(self._origin + begin_s - self._clock())
        during = functools.partial(self._play_during, step.during) if step.during else None
        proven = await run_fault(make_fault(step.fault, step.options), self._stage, during)
        await self._stage.require_alive()
        if step.during and not proven:
            left = "1 fault that was" if step.count == 2 else f"{step.count - 1} faults that were"
            why = f"{left} to come during {step.fault} did not: it was not proven"
            _doubt(self._stage, self._name, why)

    async def _play_during(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._play_step(step)


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
