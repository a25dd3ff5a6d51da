"""The simulated lab: nodes X, Y and storage in virtual time, under the same controller as the real ones.

One seed gives one history, byte for byte: nothing in here asks the machine's clock, and nothing is drawn but
from the seed.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk import clock
from jepsen_blk.errors import InternalError, UserError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Impairment
from jepsen_blk.lab.seams import GuestState, GuestStream
from jepsen_blk.lab.sim.hypervisor import SimHypervisor
from jepsen_blk.lab.sim.servers import Media, SimServers
from jepsen_blk.lab.sim.steering import SimStorage
from jepsen_blk.lab.sim.target import SimTarget
from jepsen_blk.lab.sim.wire import SimNetwork
from jepsen_blk.spec import Spec
from jepsen_blk.storage.log import TargetLog

GUEST_NODES = ("x", "y")
STORAGE_NODE = "storage"


@dataclass(frozen=True, slots=True)
class PreparedSimLab:
    """Implements lab.seams.PreparedLab: there is nothing to prepare."""

    spec: Spec
    environment: dict[str, str]

    def new_run(self) -> int:
        """Draw the run's number from the seed."""
        digest = hashlib.sha256(f"run {self.spec.seed}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    async def why_not(self, wanted: Impairment | Ability) -> str:
        """Say what is not simulated."""
        if wanted is Ability.POSTCOPY and self.spec.guest.frontend == "blkfront":
            return "Xen, whose frontend blkfront is, moves a guest by pre-copy only"
        return ""

    async def up(self, run_dir: Path, stream: GuestStream) -> SimLab:
        """Bring it up with the guest running on X."""
        lab = SimLab(self.spec, run_dir, stream)
        await lab.hypervisor.start(GUEST_NODES[0])
        lab.hypervisor.prepare(GUEST_NODES[1])
        return lab


class SimLab:
    """Implements lab.seams.Lab."""

    guest_nodes = GUEST_NODES
    storage_node = STORAGE_NODE

    def __init__(self, spec: Spec, run_dir: Path, stream: GuestStream) -> None:
        self._log = TargetLog(run_dir / "target.jsonl")
        storage, media = spec.storage, Media(spec)
        durable = storage.flush and storage.cache == "none"
        self._target = target = SimTarget(
            storage.conflict, storage.write_latency_ms, self._log, media.backing, durable=durable
        )
        self.network = SimNetwork(target.disconnect, spec.seed)
        self.hypervisor = SimHypervisor(spec, self.network, target, stream, GUEST_NODES)
        self.storage = SimStorage(target)
        self.storage_servers = SimServers(target, media, self.network)

    async def freeze(self, node: str) -> None:
        """Stop the node's hypervisor, or the storage's server."""
        if node != STORAGE_NODE:
            self.hypervisor.freeze(node)
        elif self._target.serving:
            self._target.process.freeze()

    async def thaw(self, node: str) -> None:
        """Let it go on; no error if it was not stopped."""
        if node == STORAGE_NODE:
            self._target.thaw()
        else:
            self.hypervisor.thaw(node)

    async def frozen(self, node: str) -> bool:
        """Tell whether it is stopped."""
        if node == STORAGE_NODE:
            return self._target.process.frozen
        return await self.hypervisor.state(node) is GuestState.FROZEN

    def how_to_enter(self) -> str:
        """There is nothing to enter."""
        return "the simulator has no nodes to enter"

    async def down(self) -> None:
        """End the guests and close the storage's log."""
        await self.hypervisor.close()
        self._log.close()


async def prepare_sim_lab(spec: Spec) -> PreparedSimLab:
    """Look at what is asked; raises UserError for what is not simulated."""
    if not clock.is_simulated():
        raise InternalError("a simulated lab belongs into virtual time: see lab.choose.run_in_time_of")
    for wanted, why in (
        (spec.storage.kind != "policy", f"storage.kind {spec.storage.kind!r}: it has the policy target only"),
        (spec.storage.backing is not None, "storage.backing: it keeps its blocks in memory; leave it out"),
    ):
        if wanted:
            raise UserError(f"lab 'sim' cannot do {why}")
    delay_s = spec.guest.reconnect_delay_s
    frontend = f"{spec.guest.frontend}{f', reconnecting for {delay_s} s' if delay_s else ''}"
    return PreparedSimLab(
        spec, {"lab": "simulator", "frontend": frontend, "python": platform.python_version()}
    )
