"""Clock jump: the guest's wall clock is set, as by a time service that corrects it or by an operator.

Whatever measures time by it goes wrong. The history is of the guest's monotonic clock, so no verdict may
change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, ConfigDict, Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

from jepsen_blk import clock
from jepsen_blk.history.record import PENDING
from jepsen_blk.lab.seams import Guest
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import SETTLE_S, require_running, require_working
from nemesis.overlap import Ground

_LEAST_S = 10.0
_SLACK_S = 1.0
"""How far two looks at two clocks may be apart: a guest may stand still between them, or its word be late."""
_YEAR_S = 365.0 * 86400


def _is_seen(jump_s: float) -> float:
    if abs(jump_s) < _LEAST_S:
        raise ValueError(f"a jump of less than {_LEAST_S:g} s cannot be told from a busy machine's delays")
    return jump_s


class Stamps:
    """Watches the stamps of the guest's operations: time has to go on in them as it does for the host."""

    def __init__(self) -> None:
        self._newest_ns = self._begun_ns = self._begun_at_ns = 0
        self._backward = False
        self._end: Callable[[], None] | None = None

    def watch(self, guest: Guest) -> None:
        """Look at all that the guest reports from now on."""
        self._end = guest.observe(self.look)

    def stop(self) -> None:
        """Look no more; no error if nothing was watched."""
        if self._end is not None:
            self._end()
            self._end = None

    def look(self, boot: int, rows: npt.NDArray[np.void]) -> None:
        """Take note of operations; one that ended before it began, or long before others, goes backward."""
        done = rows[rows["finish"] != PENDING]
        if len(done):
            self._backward |= bool((done["finish"] < done["start"]).any())
            self._backward |= int(done["finish"].min()) < self._newest_ns - int(_SLACK_S * 1e9)
            self._newest_ns = max(self._newest_ns, int(done["finish"].max()))

    def begin(self) -> None:
        """Count from now on."""
        self._begun_ns, self._begun_at_ns = self._newest_ns, clock.monotonic_ns()

    def require_in_order(self) -> str:
        """Say how far the stamps have gone; raise NotProven if time does not go on in them as here."""
        went_s = (self._newest_ns - self._begun_ns) / 1e9
        took_s = (clock.monotonic_ns() - self._begun_at_ns) / 1e9
        if self._backward or not 0 < went_s <= took_s + _SLACK_S:
            back = ", and backward," if self._backward else ""
            raise NotProven(f"the history's stamps went on by {went_s:.1f} s{back} in {took_s:.1f} s")
        return f"the history's stamps went on by {went_s:.1f} s in {took_s:.1f} s"


@dataclass(slots=True)
class ClockJump:
    """Set the guest's wall clock forward by `jump_s`, or backward if that is below 0."""

    name: ClassVar[str] = "clock-jump"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    jump_s: Annotated[float, Field(ge=-_YEAR_S, le=_YEAR_S), AfterValidator(_is_seen)] = 3600.0
    duration_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    _ahead_ns: int | None = field(default=None, init=False, repr=False)
    _stamps: SkipJsonSchema[InstanceOf[Stamps]] = field(default_factory=Stamps, init=False, repr=False)

    def upsets(self) -> frozenset[Ground]:
        """Nothing that others rest on."""
        return frozenset()

    def rests_on(self) -> frozenset[Ground]:
        """The guest's memory, with which its clock moves along."""
        return frozenset({Ground.MEMORY})

    async def setup(self, stage: Stage) -> None:
        """See how the guest's clocks stand, and that it works, so that there are stamps from before."""
        await require_running(stage)
        self._ahead_ns = await stage.guest.wall_ahead()
        self._stamps.watch(stage.guest)
        await stage.work_on(0)

    async def inject(self, stage: Stage) -> None:
        """Set the wall clock."""
        self._stamps.begin()
        await stage.guest.set_wall_ahead(self._before_ns + int(self.jump_s * 1e9))

    async def prove(self, stage: Stage) -> str:
        """The wall clock has jumped, and the history's stamps go on as before while the guest works."""
        moved_s = await self._moved_s(stage)
        if abs(moved_s - self.jump_s) > _SLACK_S:
            raise NotProven(f"the guest's wall clock moved by {moved_s:.1f} s, not by {self.jump_s:g} s")
        await stage.work_on(SETTLE_S)
        return f"the guest's wall clock moved by {moved_s:+.1f} s; {self._stamps.require_in_order()}"

    async def dwell(self, stage: Stage) -> None:
        """Leave it so."""
        await asyncio.sleep(self.duration_s)

    async def heal(self, stage: Stage) -> None:
        """Set the wall clock back to what it would show."""
        self._stamps.stop()
        if self._ahead_ns is not None:
            await stage.guest.set_wall_ahead(self._ahead_ns)

    async def prove_healed(self, stage: Stage) -> str:
        """The wall clock is where it would be, and the guest completes operations."""
        if self._ahead_ns is None:
            return await require_working(stage)
        moved_s = await self._moved_s(stage)
        if abs(moved_s) > _SLACK_S:
            raise NotProven(f"the guest's wall clock is still {moved_s:+.1f} s from where it was")
        return f"the guest's wall clock is as before; {await require_working(stage)}"

    @property
    def _before_ns(self) -> int:
        if self._ahead_ns is None:
            raise NotProven("nobody knows how the guest's wall clock stood")
        return self._ahead_ns

    async def _moved_s(self, stage: Stage) -> float:
        return (await stage.guest.wall_ahead() - self._before_ns) / 1e9
