"""Steps inside the guest: its workload stops, and single operations take its place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from jepsen_blk.errors import LabError
from jepsen_blk.history.record import Outcome
from nemesis.guest_work import keep_running
from nemesis.steps.script import Block, Name, Plain, Script, Timeout

_LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Quiesce(Plain):
    """Stop the workload and wait until nothing is in flight: from then on the script alone issues."""

    do: Literal["quiesce"]

    async def play(self, script: Script) -> str:
        """Quiesce; the workload goes on when the script is over."""
        stage = script.stage
        if "workload" not in script.undo:
            forget = script.guest.observe(script.completions)

            async def go_on() -> None:
                forget()
                await keep_running(stage, stage.quiesce())
                await script.guest.run(stage.workload)

            script.undo = {"workload": go_on, **script.undo}  # the last to be undone
        await stage.quiesce()
        return f"the guest on {stage.guest_node} has nothing in flight"


@dataclass(frozen=True, slots=True)
class Write(Plain):
    """Issue one write; `name` lets later steps speak of it. Its completion is not waited for."""

    do: Literal["write"]
    block: Block
    name: str = ""

    @property
    def gives(self) -> str:
        """Its name."""
        return self.name

    async def play(self, script: Script) -> str:
        """Issue it."""
        value = await script.guest.issue(self.block, write=True)
        if self.name:
            script.values[self.name] = value
        return f"value {value} was issued on {script.stage.guest_node}"


@dataclass(frozen=True, slots=True)
class AwaitWrite(Plain):
    """Wait until the guest is told that the named write is done."""

    do: Literal["await-write"]
    of: Name
    timeout_s: Timeout = 10.0

    @property
    def takes(self) -> str:
        """The write."""
        return self.of

    async def play(self, script: Script) -> str:
        """Wait for it."""
        outcome = await script.completions.written(script.values[self.of], self.timeout_s)
        if outcome is not Outcome.OK:
            raise LabError(f"write {self.of} was not acknowledged: its outcome is {outcome.name.lower()}")
        return f"write {self.of} was acknowledged"


@dataclass(frozen=True, slots=True)
class Read(Plain):
    """Read a block; with `until`, again and again until it has the value of that write."""

    do: Literal["read"]
    block: Block
    until: str = ""
    timeout_s: Timeout = 10.0

    @property
    def takes(self) -> str:
        """The write that is waited for."""
        return self.until

    async def play(self, script: Script) -> str:
        """Read it."""
        async with asyncio.timeout(self.timeout_s):
            while True:
                number = script.completions.reads(self.block)
                await script.guest.issue(self.block, write=False)
                value = await script.completions.read(self.block, number, self.timeout_s)
                if not self.until or value == script.values[self.until]:
                    return f"the guest read {script.told(value)}"
                await asyncio.sleep(_LOOK_AGAIN_S)


@dataclass(frozen=True, slots=True)
class ReadAll(Plain):
    """Read every block."""

    do: Literal["read-all"]

    async def play(self, script: Script) -> str:
        """Read them."""
        await script.stage.read_all()
        return "the guest read every block"


GuestStep = Quiesce | Write | AwaitWrite | Read | ReadAll
