"""A lab as a whole: prepared, and up."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.paths import Impairment
from jepsen_blk.lab.seams.guest import GuestStream
from jepsen_blk.lab.seams.hypervisor import Hypervisor
from jepsen_blk.lab.seams.nodes import Network
from jepsen_blk.lab.seams.storage import Storage, StorageServers


class Lab(Protocol):
    """A lab that is up: its nodes and seams."""

    @property
    def network(self) -> Network:
        """The networks between the nodes."""

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisors of the nodes, and the one guest they share."""

    @property
    def storage(self) -> Storage:
        """The storage under test."""

    @property
    def storage_servers(self) -> StorageServers:
        """The programs that serve it."""

    @property
    def guest_nodes(self) -> tuple[str, str]:
        """The node where the guest starts, and the one it can move to."""

    @property
    def storage_node(self) -> str:
        """The node that serves the storage."""

    async def freeze(self, node: str) -> None:
        """Stop every process of the lab on the node, as on a machine that hangs; its kernel lives on."""

    async def thaw(self, node: str) -> None:
        """Let the node's processes go on; no error if they were not stopped."""

    async def frozen(self, node: str) -> bool:
        """Tell whether all of the node's processes are stopped."""

    def how_to_enter(self) -> str:
        """Say, in one line, how a user gets a shell in it while it is kept."""

    async def down(self) -> None:
        """Take everything down; no error if it is down."""


class PreparedLab(Protocol):
    """A lab whose slow parts (image, pre-booted state) are ready; can be brought up many times."""

    @property
    def environment(self) -> dict[str, str]:
        """What the lab is made of: versions, kernel, accelerator and why."""

    def new_run(self) -> int:
        """Draw the number that the run's stamps carry: another each time, or the seed's in a simulation."""

    async def why_not(self, wanted: Impairment | Ability) -> str:
        """Say why the lab cannot impair a path like that, or do what is wanted; empty if it can."""

    async def up(self, run_dir: Path, stream: GuestStream) -> Lab:
        """Bring it up with the guest running; raises LabError, and leaves nothing behind then."""
