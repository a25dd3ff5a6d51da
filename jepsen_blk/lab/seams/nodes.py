"""The machines of a lab, and the networks between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jepsen_blk.errors import LabError
from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Path_


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command on a node ended with."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def require_success(self, node: str) -> Completed:
        """Return it; raise LabError, with what the command said, if it exited non-zero."""
        if self.code != 0:
            said = self.stderr.strip() or "-"
            raise LabError(f"node {node}: {' '.join(self.argv)} ended with {self.code}: {said}")
        return self


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
