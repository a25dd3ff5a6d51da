"""The seams of a lab: what a nemesis, a handoff policy and the controller may know of it.

Nothing above this module names a hypervisor, a command or a namespace; a fault written against
these protocols is one piece of code on every lab. Every call is bounded in time and raises
`LabError` when the bound is passed or the lab refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Path_
from jepsen_blk.storage.holds import InFlight as InFlight  # part of the Storage seam
from jepsen_blk.storage.misbehaviour import Misbehaved as Misbehaved
from jepsen_blk.storage.misbehaviour import Misbehaviour as Misbehaviour


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command on a node ended with."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Process(Protocol):
    """A process that runs on a node until it ends or is killed."""

    async def wait(self, timeout_s: float) -> int:
        """Return the exit code; raise LabError if it still runs after `timeout_s`."""

    async def kill(self) -> None:
        """Kill it and wait until it is gone; no error if it has ended."""

    @property
    def running(self) -> bool:
        """Tell whether it still runs."""


class Node(Protocol):
    """A machine of the lab: X, Y or the storage node."""

    @property
    def name(self) -> str:
        """The node's name, as histories, logs and specifications call it."""

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 10.0) -> Completed:
        """Run a command to its end; raise LabError when it exits non-zero or takes too long."""

    async def start(self, argv: Sequence[str], *, log: Path) -> Process:
        """Start a long-running process with its output in `log`."""


class Network(Protocol):
    """Cuts, impairs, resets and probes paths. `node` is the end whose path it is."""

    async def cut(self, node: str, path: Path_, direction: Direction = Direction.BOTH) -> None:
        """Drop every packet of the path in that direction."""

    async def impair(self, node: str, path: Path_, impairment: Impairment) -> None:
        """Make the path worse without cutting it; raises LabError where the lab cannot."""

    async def hide_ends(self, node: str, path: Path_) -> None:
        """Mend the path but for what ends a connection of the node: the far side does not learn of an end."""

    async def reset(self, node: str, path: Path_) -> int:
        """Kill the node's established connections on the path; return how many there were."""

    async def heal(self, node: str, path: Path_) -> None:
        """Undo `cut`, `impair` and `hide_ends`; no error if there is nothing to undo."""

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path with a new connection of the node, or an echo where no port is known to answer."""

    async def dropped(self, node: str, path: Path_) -> Dropped:
        """Return what `cut` and `impair` have dropped since; nothing once the path is healed."""

    async def unacknowledged_bytes(self, node: str, path: Path_) -> int:
        """Return what the node's connections were given to send and the other end has not acknowledged."""

    async def echo(self, node: str, path: Path_, count: int, payload_bytes: int = 56) -> Echoes:
        """Send a burst of echo requests of the node along the path."""


class GuestState(StrEnum):
    """What a node's hypervisor says of the guest."""

    ABSENT = "absent"
    INCOMING = "incoming"
    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io-error"
    MIGRATED = "migrated"
    FROZEN = "frozen"
    SWITCHING = "stopped for its switch-over"
    """By a migration, which alone can let it run on."""


@dataclass(frozen=True, slots=True)
class Migration:
    """How a migration went; times are ns of the controller's monotonic clock."""

    source: str
    destination: str
    mode: str
    begin_ns: int
    stopped_ns: int
    end_ns: int
    total_ms: float
    downtime_ms: float
    transferred_bytes: int


class MigrationPhase(StrEnum):
    """Where one side of a migration is."""

    NONE = "not begun"
    COPYING = "copying"
    STOPPED = "stopping the guest"
    """Its processors have stopped; what it has in flight may be waited for. It is waited for, never told."""
    SWITCHOVER = "at the switch-over"
    POSTCOPY = "in post-copy"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a migration is: `copied` is a part of the guest's memory; pages are requested in post-copy."""

    phase: MigrationPhase
    copied: float
    page_requests: int


class Hypervisor(Protocol):
    """Starts, moves, pauses and kills the guest."""

    async def start(self, node: str) -> None:
        """Start the guest on `node` from its beginning, another boot, and let it run; it waits for work.

        What runs there of an earlier one is killed. The guest may still run on another node.
        """

    async def state(self, node: str) -> GuestState:
        """Ask the node for the guest's state."""

    async def begin_migration(
        self, source: str, destination: str, mode: str = "precopy", *, pause: bool = False
    ) -> None:
        """Begin to move the guest; with `pause`, wait before the switch-over for `continue_migration`.

        Mode "unending" goes on until it is broken off: it takes longer than the guest lets it.
        """

    async def continue_migration(self, source: str) -> None:
        """Let a migration that waits at MigrationPhase.SWITCHOVER switch over."""

    async def finish_migration(self, source: str) -> Migration:
        """Return once the destination holds the guest (running, or stopped as it was).

        With mode "postcopy" the destination may still lack pages then: `wait_migration` tells their end.
        """

    async def cancel_migration(self, source: str) -> None:
        """Cancel the migration, and return once the source says so."""

    async def recover_migration(self, source: str) -> None:
        """Take up an interrupted post-copy migration again."""

    async def wait_migration(self, node: str, phase: MigrationPhase, timeout_s: float) -> None:
        """Return once the last migration is in `phase` as `node` sees it; raise LabError for another end."""

    async def progress(self, source: str) -> Progress:
        """Ask the source how far its last migration is."""

    async def pause(self, node: str) -> None:
        """Stop the guest's processors."""

    async def resume(self, node: str) -> None:
        """Let the guest run, and return once it does; failed requests are re-issued by the frontend."""

    def stops_at(self, error: str) -> bool:
        """Tell whether a disk error of that name (EIO, ENOSPC) stops the guest, or is told to it."""

    async def wait_state(self, node: str, state: GuestState, timeout_s: float) -> None:
        """Return once the guest on `node` is in `state`; raise LabError where there is none that could be."""

    async def wait_disk(self, node: str, timeout_s: float) -> None:
        """Return once the node's hypervisor reads the guest's disk again, as after a healed path."""

    async def kill(self, node: str) -> None:
        """Kill the hypervisor process of the node at once."""

    async def last_words(self, node: str) -> str:
        """Return one line that the guest's console says of its end, or nothing."""

    async def disconnect(self, node: str) -> None:
        """Cancel at the initiator: drop the node's storage connections from its own side."""


class Storage(Protocol):
    """The shared storage: what is in flight, which write is held, who is fenced out."""

    async def in_flight(self, node: str) -> Sequence[InFlight]:
        """Return the node's writes in flight."""

    async def wait_in_flight(
        self, node: str, blocks: Sequence[int], count: int, timeout_s: float
    ) -> Sequence[InFlight]:
        """Return the writes that were in flight once `node` had `count` (to one of `blocks`, if given).

        The storage sees every write, however soon it ends, so they may have ended when this returns.
        """

    async def hold(self, node: str, blocks: Sequence[int] = ()) -> int:
        """Arm a hold on the next write of `node` (to one of `blocks`, if given); return its id."""

    async def wait_held(self, hold: int, timeout_s: float) -> InFlight:
        """Return the write that the hold caught."""

    async def wait_writes(self, node: str, block: int, count: int, timeout_s: float) -> None:
        """Return once `node` has had `count` writes to `block` completed since the hold caught its write."""

    async def reissues(self, node: str) -> int:
        """Return how many writes `node` has sent again, because it never learned of their end."""

    async def wait_reissues(self, node: str, count: int, timeout_s: float) -> None:
        """Return once `node` has sent `count` writes again."""

    async def release(self, hold: int) -> None:
        """Let the held write go on; an armed hold that caught nothing is disarmed."""

    async def wait_landed(self, hold: int, timeout_s: float) -> None:
        """Return once the released write has been applied, ignored or refused."""

    async def fence(self, node: str, *, abort: bool) -> None:
        """Refuse new commands of `node`; with `abort` also end the accepted ones, and confirm both."""

    async def raise_epoch(self, node: str) -> None:
        """Make `node` the holder of a new epoch: writes of older ones are refused when applied."""

    async def admit_single_writer(self, node: str) -> None:
        """Make `node` the one active writer once every other node's writes are flushed."""

    async def unfence(self, node: str) -> None:
        """Admit the node again."""

    async def misbehave(self, what: Misbehaviour) -> int:
        """Answer requests late or with an error from now on; return the id of the misbehaviour."""

    async def wait_misbehaved(self, misbehaviour: int, count: int, timeout_s: float) -> Misbehaved:
        """Return once `count` requests have been answered as the misbehaviour says."""

    async def behave(self, misbehaviour: int) -> None:
        """End a misbehaviour, also for the requests that it delays; no error if it has ended."""

    async def stats(self) -> dict[str, Any]:
        """Return counters: writes received, applied, ignored, refused, held."""


class StorageServers(Protocol):
    """The programs that serve the storage. Their content outlives them where it is not in memory."""

    async def stop(self) -> None:
        """End them at once, with all that they have in flight; no error if they have ended."""

    async def unflushed(self) -> int:
        """Return how many blocks a loss of their volatile cache would take now; they may be frozen."""

    async def lose_cache(self) -> int:
        """Lose what a volatile cache of theirs held, after `stop`; return how many blocks it took along."""

    async def throttle(self, node: str, bytes_per_s: int) -> None:
        """Limit what the node may write, 0: no longer; raises LabError where they have no throttle."""

    async def start(self) -> None:
        """Start what has ended, as it was started first, and return once it answers; no error if it runs."""


Observer = Callable[[int, npt.NDArray[np.void]], None]
"""Called with the boot and its next rows, shape (n,) of dtype ROW, once they are in the journal."""


class Guest(Protocol):
    """The agent inside the guest, reached without crossing a network that a fault can cut."""

    async def run(self, workload: dict[str, Any]) -> None:
        """Start issuing operations."""

    async def quiesce(self, timeout_s: float) -> bool:
        """Stop issuing and wait until nothing is in flight; False if something still is."""

    async def read_all(self, timeout_s: float) -> None:
        """Read every block once; returns when all reads have completed and been recorded."""

    async def issue(self, block: int, *, write: bool) -> int:
        """Issue one operation of the quiesced guest; return the value of a write once it is in flight."""

    async def wall_ahead(self) -> int:
        """Return by how many ns the guest's wall clock is ahead of its monotonic one."""

    async def set_wall_ahead(self, ahead_ns: int) -> None:
        """Set the guest's wall clock, whatever it shows, to so many ns ahead of its monotonic one."""

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show `observer` every row from now on; return what ends that."""

    async def abandon(self) -> int:
        """Report everything still in flight as indeterminate; return how many there were."""

    def give_up(self) -> int:
        """Close the boot where it is, as at a fence, and return its number: no more of it is recorded."""

    async def boot_again(self) -> int:
        """Begin the next boot with the guest that was started again; return its number."""

    def power_loss(self) -> AbstractAsyncContextManager[None]:
        """Give the history a power loss of the storage, at some moment while the block ran.

        The block ends the servers, and they are not started again before it is over.
        """

    @property
    def second_versions(self) -> int:
        """How many of the guest's numbered frames came a second time with other operations: a split brain."""


class GuestStream(Protocol):
    """What a lab needs of the link to the agent: where it listens, and whose stream counts."""

    async def listen(self, node: str, path: Path) -> None:
        """Listen for the guest of `node` on a unix socket; its hypervisor connects to it."""

    async def attach(self, node: str) -> None:
        """Take the guest's stream from `node` from now on, and ask again for what was lost on the way."""


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

    async def why_not(self, impairment: Impairment) -> str:
        """Say why the lab's nodes cannot impair a path like that; empty if they can."""

    async def up(self, run_dir: Path, stream: GuestStream) -> Lab:
        """Bring it up with the guest running; raises LabError, and leaves nothing behind then."""
