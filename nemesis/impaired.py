"""What the faults share that make a path worse without cutting it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jepsen_blk.lab.paths import Impairment
from nemesis.fault import Stage
from nemesis.on_paths import OnPaths
from nemesis.overlap import Ground


@dataclass(slots=True)
class Impaired(OnPaths, ABC):
    """A fault that impairs a node's paths; implements nemesis.demands.Impairing."""

    @abstractmethod
    def impairment(self) -> Impairment:
        """Say how the paths are impaired."""

    async def inject(self, stage: Stage) -> None:
        """Impair the paths."""
        for path in self.paths():
            await stage.lab.network.impair(self._node, path, self.impairment())
            stage.events.emit("network", path.value, "impaired", node=self._node, by=str(self.impairment()))

    def rests_on(self) -> frozenset[Ground]:
        """The paths; what goes along them goes on, only worse."""
        return self.upsets()
