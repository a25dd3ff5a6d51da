"""A fault that does nothing, for tests of what stands around faults."""

from dataclasses import dataclass

from nemesis.fault import Stage
from nemesis.overlap import Ground


@dataclass
class Quiet:
    """A fault that does nothing."""

    name = "quiet"
    level: int = 0

    def upsets(self) -> frozenset[Ground]:
        return frozenset()

    def rests_on(self) -> frozenset[Ground]:
        return frozenset()

    async def setup(self, stage: Stage) -> None: ...

    async def inject(self, stage: Stage) -> None: ...

    async def prove(self, stage: Stage) -> str:
        return f"level {self.level}"

    async def dwell(self, stage: Stage) -> None: ...

    async def heal(self, stage: Stage) -> None: ...

    async def prove_healed(self, stage: Stage) -> str:
        return "well"
