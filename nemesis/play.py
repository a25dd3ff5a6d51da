"""Playing a plan: each fault at its time, and none after its part of the schedule is over.

What comes during a fault is played as its dwelling, once it is proven. So whatever ends it, an end in order,
an error or a cancellation, comes from the inside out, and the inner ones are healed first.

A fault that has a cue waits for it once all is ready for it, for as long as it may begin.

A part that is bounded by time ends with the fault under way, which is taken to its end: a fault that is cut
off proves nothing. What has no such bound is cut off at the time limit, and that is a doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from jepsen_blk.cue_spec import ReissueCue
from nemesis.catalogue import make_fault
from nemesis.cues import Awaited, count_reissues
from nemesis.fault import End, LeftOut, Stage, run_fault
from nemesis.plan import Plan, Step

_SLACK_S = 0.1
"""A fault that fills its part exactly is not too late because the clock has moved on by a little."""


async def play(plan: Plan, stage: Stage, end: asyncio.Event, name: str, limit_s: float) -> None:
    """Play the plan, or let the workload run alone for `limit_s`, until `end` at most; the events say how.

    Raises LabError when the guest has ended, or the storage does not say how often writes were sent again.
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
        self._over: dict[float, str] = {}
        """Why nothing more of a part begins."""
        self._late = 0
        self._counts = False
        self._reissues: Mapping[str, int] = {}
        """How many writes each node had sent again when the last fault began; counted if a cue asks."""

    async def play(self, plan: Plan) -> int:
        """Play what is in time and wait until all time is over; return how many faults came too late."""
        self._counts = any(isinstance(dated.step.when, ReissueCue) for dated in plan.dated)
        await self._count()
        for step in plan.steps:
            async with asyncio.timeout_at(self._origin + self._limit_s if step.until_s is None else None):
                await self._play_step(step)
        for until_s, why in self._over.items():
            if until_s not in self._begun:
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
            self._leave_out(step, until_s, f"what came before took until {now_s:.1f} s")
            return
        await asyncio.sleep(self._origin + begin_s - self._clock())
        during = functools.partial(self._play_during, step.during) if step.during else None
        cue = None
        if step.when:
            cue = _InTime(Awaited(step.when, self._reissues), step, self._origin, self._count)
        else:
            await self._count()
        end = await run_fault(make_fault(step.fault, step.options), self._stage, during, cue)
        await self._stage.require_alive()
        if end is End.LEFT_OUT and until_s is not None:
            self._leave_out(step, until_s, f"{step.fault} waited for its cue ({cue}) to the end")
            return
        self._begun.add(until_s)
        if step.during and end is not End.PROVEN:
            left = "1 fault that was" if step.count == 2 else f"{step.count - 1} faults that were"
            why = f"{left} to come during {step.fault} did not: it was not proven"
            _doubt(self._stage, self._name, why)

    def _leave_out(self, step: Step, until_s: float, why: str) -> None:
        self._over.setdefault(until_s, why)
        self._late += step.count

    async def _count(self) -> None:
        """Count what was sent again before the fault that begins now."""
        if self._counts:
            self._reissues = await count_reissues(self._stage.lab)

    async def _play_during(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._play_step(step)


@dataclass(frozen=True, slots=True)
class _InTime:
    """A cue that is waited for as long as its fault may begin; implements nemesis.fault.Cue."""

    awaited: Awaited
    step: Step
    origin: float
    begin: Callable[[], Awaitable[None]]
    """What is to be done as the fault begins."""

    def __str__(self) -> str:
        """Say what is waited for."""
        return str(self.awaited)

    async def wait(self, stage: Stage) -> str:
        """Return what was seen; raises NotProven if it did not come, LeftOut once the fault is too late."""
        step, clock = self.step, asyncio.get_running_loop().time
        late = LeftOut(f"its part of the schedule was over before its cue came: {self}")
        latest = None if step.until_s is None else self.origin + step.until_s - step.least_s + _SLACK_S
        try:
            async with asyncio.timeout_at(latest):
                saw = await self.awaited.wait(stage)
        except TimeoutError as error:
            raise late from error
        if not step.fits(clock() - self.origin - _SLACK_S):
            raise late
        await self.begin()
        return saw


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
