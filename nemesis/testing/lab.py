"""The scripted lab: every seam of a lab in memory, so that a fault can be tried where there is no QEMU."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import Observer
from nemesis.testing.hypervisor import ScriptedHypervisor
from nemesis.testing.network import ScriptedNetwork
from nemesis.testing.situation import GUEST_NODES, STORAGE_NODE, Situation
from nemesis.testing.storage import ScriptedServers, ScriptedStorage


class ScriptedGuest:
    """Implements lab.seams.Guest: what is completed is counted, no rows are reported."""

    second_versions = 0

    def __init__(self, situation: Situation) -> None:
        self._now = situation
        self._boot = 0
        self._wall_ahead_ns = 0

    @property
    def operations(self) -> int:
        """How many operations have completed until now; asked in a running event loop only."""
        return self._now.operations

    async def run(self, workload: dict[str, Any]) -> None:
        """Issue operations."""
        self._issue(True)

    async def quiesce(self, timeout_s: float) -> bool:
        """Issue no more; nothing is in flight then."""
        self._issue(False)
        return True

    async def read_all(self, timeout_s: float) -> None:
        """Raise LabError if the disk does not answer."""
        if not any(map(self._now.has_disk, GUEST_NODES)):
            raise LabError(f"the blocks were not read within {timeout_s:g} s")

    async def issue(self, block: int, *, write: bool) -> int:
        """Raise LabError: what a single operation does is for a real guest to show."""
        raise LabError("the scripted guest issues no single operations; try it on a real one")

    async def wall_ahead(self) -> int:
        """Return by how much its wall clock was set ahead."""
        return self._wall_ahead_ns

    async def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set its wall clock."""
        self._wall_ahead_ns = ahead_ns

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show nothing: there are no rows."""
        return lambda: None

    async def abandon(self) -> int:
        """Nothing is left in flight."""
        return 0

    @contextlib.asynccontextmanager
    async def power_loss(self) -> AsyncIterator[None]:
        """Note nothing: there is no history."""
        yield

    def give_up(self) -> int:
        """Close the boot and return its number."""
        return self._boot

    async def boot_again(self) -> int:
        """Begin the next boot, which waits for work, and return its number."""
        self._issue(False)
        self._boot += 1
        return self._boot

    def _issue(self, issuing: bool) -> None:
        self._now.settle()
        self._now.issuing = issuing
        self._now.disk_changed()


class ScriptedLab:
    """Implements lab.seams.Lab, with the guest at work on x and y waiting for it.

    A seam's answer is changed by another method in its place: `lab.network.echo = ...`.
    """

    guest_nodes = GUEST_NODES
    storage_node = STORAGE_NODE

    def __init__(self) -> None:
        self._now = Situation()
        self.network = ScriptedNetwork(self._now)
        self.hypervisor = ScriptedHypervisor(self._now)
        self.storage = ScriptedStorage(self._now)
        self.storage_servers = ScriptedServers(self._now)
        self.guest = ScriptedGuest(self._now)

    async def freeze(self, node: str) -> None:
        """Stop every process of the node."""
        self._now.settle()
        self._now.frozen.add(node)

    async def thaw(self, node: str) -> None:
        """Let them go on."""
        self._now.settle()
        self._now.frozen.discard(node)
        self._now.disk_changed()

    async def frozen(self, node: str) -> bool:
        """Tell whether they are stopped."""
        return node in self._now.frozen

    def how_to_enter(self) -> str:
        """There is nothing to enter."""
        return "the scripted lab has no nodes to enter"

    async def down(self) -> None:
        """Nothing is left behind."""
