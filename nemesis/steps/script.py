"""The state of a script while it is played: who is who, what has a name, and what has to be undone.

X is the node where the guest is when the script begins, Y the other one, whatever the lab calls them: the
same script serves wherever a schedule has left the guest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from jepsen_blk.errors import LabError
from jepsen_blk.history.record import F, Outcome
from jepsen_blk.lab.seams import Guest
from nemesis.fault import Stage

MIGRATION = "migration"
"""What is to be undone while one is under way: it has to end before anything else is done with the guest."""
GuestNode = Literal["x", "y"]
Name = Annotated[str, Field(min_length=1, max_length=32)]
Block = Annotated[int, Field(ge=0)]
Timeout = Annotated[float, Field(gt=0, le=600)]


class Completions:
    """What completed of the operations that a script issued; it observes the guest's rows."""

    def __init__(self) -> None:
        self._written: dict[int, Outcome] = {}
        self._read: dict[int, list[int]] = {}
        self._more = asyncio.Event()

    def __call__(self, boot: int, rows: npt.NDArray[np.void]) -> None:
        """Take in rows of the guest."""
        for f, outcome, block, value in zip(
            *(rows[column].tolist() for column in ("f", "outcome", "block", "value")), strict=True
        ):
            if f == F.WRITE:
                self._written[value] = Outcome(outcome)
            elif f == F.READ and outcome == Outcome.OK:
                self._read.setdefault(block, []).append(value)
        self._more.set()

    def reads(self, block: int) -> int:
        """Return how many reads of the block have completed."""
        return len(self._read.get(block, ()))

    async def written(self, value: int, timeout_s: float) -> Outcome:
        """Return how the write of `value` ended, once it has."""
        await self._until(lambda: value in self._written, timeout_s)
        return self._written[value]

    async def read(self, block: int, number: int, timeout_s: float) -> int:
        """Return the value that the block's read number `number` (from 0) has seen."""
        await self._until(lambda: self.reads(block) > number, timeout_s)
        return self._read[block][number]

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._more.clear()
                await self._more.wait()


@dataclass(slots=True)
class Script:
    """What the steps share."""

    stage: Stage
    nodes: Mapping[str, str]
    """The lab's name of each of `x`, `y` and `storage`."""
    reissues: Mapping[str, int]
    """How many writes each node had sent again when the script began."""
    values: dict[str, int] = field(default_factory=dict)
    """The value of each write that was given a name."""
    holds: dict[str, int] = field(default_factory=dict)
    completions: Completions = field(default_factory=Completions)
    undo: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """How to undo what was done and is not undone yet, by what it was, in the order in which it was done."""

    @property
    def guest(self) -> Guest:
        """The guest, wherever it is."""
        return self.stage.guest

    def told(self, value: int) -> str:
        """Return a value by the name of its write."""
        names = [name for name, of in self.values.items() if of == value]
        return names[0] if names else f"value {value}" if value else "what was there at first"

    async def undo_all(self) -> None:
        """Undo what was done last first; raises LabError for what could not be undone, after all the rest."""
        trouble = []
        while self.undo:
            what, work = self.undo.popitem()
            try:
                await work()
            except LabError as error:
                trouble.append(f"{what}: {error}")
        if trouble:
            raise LabError("; ".join(trouble))


class Step(Protocol):
    """One step of a script; its dataclass fields are what the specification says of it."""

    @property
    def do(self) -> str:
        """The verb."""

    @property
    def gives(self) -> str:
        """The name that later steps may use, or nothing."""

    @property
    def takes(self) -> str:
        """The name that an earlier step must have given, or nothing."""

    async def play(self, script: Script) -> str:
        """Do it and say what was seen of it; raises LabError or TimeoutError if it was not seen."""


@dataclass(frozen=True, slots=True)
class Plain:
    """What most steps are: they neither give a name nor take one."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def gives(self) -> str:
        """Nothing."""
        return ""

    @property
    def takes(self) -> str:
        """Nothing."""
        return ""


def describe(step: Step) -> str:
    """Return a step in a line, as `verb field=value`, without what is as it always is."""
    return " ".join((step.do, *_settings(step)))


def _settings(step: Any) -> Iterator[str]:
    for item in fields(step):
        value = getattr(step, item.name)
        if item.name != "do" and value != item.default:
            yield f"{item.name}={value}"
