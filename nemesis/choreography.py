"""Choreography: an exact interleaving, played step by step, each waiting for what it is about.

A random schedule meets the one order of events that does the damage by luck; a script says that order: hold
the next write, cut the path, wait for the error, migrate, wait for the re-issue, overwrite, read, release,
read. Every step has to be seen to work before the next one begins, so the script is its own proof.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

from jepsen_blk.errors import LabError, SpecError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Path_
from jepsen_blk.spec import StorageSpec
from nemesis.cues import count_reissues
from nemesis.fault import NotProven, Stage
from nemesis.guest_work import let_work, require_running, require_working
from nemesis.steps.abilities import abilities_of
from nemesis.steps.guest import GuestStep, Quiesce
from nemesis.steps.machine import MachineStep
from nemesis.steps.migration import MigrationStep
from nemesis.steps.network import Cut, NetworkStep
from nemesis.steps.script import Script, Step, describe
from nemesis.steps.storage import StorageStep, Throttle

AnyStep = Annotated[
    GuestStep | MachineStep | MigrationStep | NetworkStep | StorageStep, Field(discriminator="do")
]
_ISSUES = ("write", "read", "read-all")


@dataclass(slots=True)
class Choreography:
    """Play `steps` in their order, once."""

    name: ClassVar[str] = "choreography"
    needs: ClassVar[str] = "storage.kind 'qemu-storage-daemon' for a step 'throttle'"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    steps: Annotated[tuple[AnyStep, ...], Field(min_length=1)]
    _script: SkipJsonSchema[InstanceOf[Script] | None] = field(default=None, init=False, repr=False)
    _played: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for a step that cannot work where it stands."""
        _check(self.steps)

    def abilities(self) -> frozenset[Ability]:
        """Say what not every lab can do."""
        return frozenset(ability for step in self.steps for ability in abilities_of(step))

    def check_storage(self, storage: StorageSpec) -> None:
        """Only one of the servers has a throttle."""
        if storage.kind != "qemu-storage-daemon" and any(isinstance(step, Throttle) for step in self.steps):
            raise SpecError(
                f"nemesis {self.name}: a 'throttle' step needs storage.kind 'qemu-storage-daemon', "
                f"not {storage.kind!r}"
            )

    async def setup(self, stage: Stage) -> None:
        """See that the guest runs, and who is X."""
        await require_running(stage)
        nodes = {"x": stage.guest_node, "y": stage.other_node, "storage": stage.lab.storage_node}
        self._script = Script(stage, nodes, await count_reissues(stage.lab))

    async def inject(self, stage: Stage) -> None:
        """Play the steps; one that is not seen to work ends the script."""
        for number, step in enumerate(self.steps, start=1):
            told = f"step {number} ({describe(step)})"
            try:
                saw = await step.play(self._playing())
            except LabError as error:
                raise NotProven(f"{told}: {error}") from error
            except TimeoutError as error:
                raise NotProven(f"{told}: it did not come in time") from error
            self._played.append(saw)
            stage.events.emit(
                "fault", self.name, "step", node=stage.guest_node, number=number, step=describe(step), saw=saw
            )

    async def prove(self, stage: Stage) -> str:
        """Every step was seen to work."""
        if len(self._played) < len(self.steps):
            raise NotProven(f"{len(self._played)} of {len(self.steps)} steps were played")
        return f"all {len(self.steps)} steps were seen to work; the last: {self._played[-1]}"

    async def dwell(self, stage: Stage) -> None:
        """The steps were all there is to it."""

    async def heal(self, stage: Stage) -> None:
        """Undo what the script has left as it was not, last first, and let the guest work."""
        if self._script is not None:
            await self._script.undo_all()
            await let_work(stage)

    async def prove_healed(self, stage: Stage) -> str:
        """The paths carry new connections and the guest completes operations."""
        if self._script is None:
            return await require_working(stage)
        cut = {(step.node, step.path) for step in self.steps if isinstance(step, Cut)}
        for name, path in sorted(cut):
            await self._require_whole(stage, name, path)
        return await require_working(stage)

    async def _require_whole(self, stage: Stage, name: str, path: Path_) -> None:
        node = self._playing().nodes[name]
        if not await stage.lab.network.reachable(node, path):
            raise NotProven(f"the {path.value} path of {node} is dead after healing")

    def _playing(self) -> Script:
        if self._script is None:
            raise NotProven("the script has not begun")
        return self._script


def _check(steps: tuple[Step, ...]) -> None:
    """Raise ValueError where a name is used before it is given or given twice, or the workload still runs."""
    given: set[str] = set()
    quiesced = False
    for number, step in enumerate(steps, start=1):
        place = f"step {number} ({describe(step)})"
        quiesced = quiesced or isinstance(step, Quiesce)
        if step.do == "fail-over":
            quiesced = False  # a guest that is started again works
        if step.do in _ISSUES and not quiesced:
            raise ValueError(f"{place}: the workload runs here: a 'quiesce' step has to come first")
        if step.takes and step.takes not in given:
            raise ValueError(f"{place}: no step before it has the name {step.takes!r}")
        if step.gives in given:
            raise ValueError(f"{place}: a step before it has the name {step.gives!r} already")
        given |= {step.gives} if step.gives else set()
