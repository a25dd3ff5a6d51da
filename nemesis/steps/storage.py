"""Steps at the storage: a chosen write is kept in flight, and what arrives there is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from nemesis.cues import see_in_flight, see_reissues
from nemesis.steps.script import Block, GuestNode, Name, Plain, Script, Timeout

_LAND_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Hold(Plain):
    """Have the storage hold the next write of a node, to `block` if one is given."""

    do: Literal["hold"]
    node: GuestNode
    name: Name
    block: Block | None = None

    @property
    def gives(self) -> str:
        """Its name."""
        return self.name

    async def play(self, script: Script) -> str:
        """Arm it."""
        storage = script.stage.lab.storage
        hold = await storage.hold(script.nodes[self.node], () if self.block is None else (self.block,))
        script.holds[self.name] = hold
        script.undo[f"hold {self.name}"] = lambda: storage.release(hold)
        return f"hold {self.name} is armed"


@dataclass(frozen=True, slots=True)
class AwaitHeld(Plain):
    """Wait until the hold has caught its write."""

    do: Literal["await-held"]
    hold: Name
    timeout_s: Timeout = 10.0

    @property
    def takes(self) -> str:
        """The hold."""
        return self.hold

    async def play(self, script: Script) -> str:
        """Wait for it."""
        write = await script.stage.lab.storage.wait_held(script.holds[self.hold], self.timeout_s)
        return f"{script.told(write.value)} of {write.node} to block {write.block} is held in flight"


@dataclass(frozen=True, slots=True)
class Release(Plain):
    """Let the held write go on, and wait until it has landed, one way or another."""

    do: Literal["release"]
    hold: Name

    @property
    def takes(self) -> str:
        """The hold."""
        return self.hold

    async def play(self, script: Script) -> str:
        """Release it."""
        storage, hold = script.stage.lab.storage, script.holds[self.hold]
        await storage.release(hold)
        await storage.wait_landed(hold, _LAND_TIMEOUT_S)
        script.undo.pop(f"hold {self.hold}", None)
        return f"what hold {self.hold} held has landed"


@dataclass(frozen=True, slots=True)
class AwaitReissue(Plain):
    """Wait until a node has sent writes again, `count` of them since the script began."""

    do: Literal["await-reissue"]
    node: GuestNode
    count: Annotated[int, Field(ge=1)] = 1
    timeout_s: Timeout = 10.0

    async def play(self, script: Script) -> str:
        """Wait for it."""
        node = script.nodes[self.node]
        since = script.reissues[node]
        return await see_reissues(script.stage.lab, node, since, self.count, self.timeout_s)


@dataclass(frozen=True, slots=True)
class AwaitInFlight(Plain):
    """Wait until the storage has at least `count` writes of a node in flight, to `block` if one is given."""

    do: Literal["await-in-flight"]
    node: GuestNode
    block: Block | None = None
    count: Annotated[int, Field(ge=1)] = 1
    timeout_s: Timeout = 10.0

    async def play(self, script: Script) -> str:
        """Wait for it."""
        blocks = () if self.block is None else (self.block,)
        return await see_in_flight(
            script.stage.lab, script.nodes[self.node], blocks, self.count, self.timeout_s
        )


@dataclass(frozen=True, slots=True)
class Throttle(Plain):
    """Have a stock server let a node write no more than that; its first write passes, and the next waits."""

    do: Literal["throttle"]
    node: GuestNode
    bytes_per_s: Annotated[int, Field(ge=1)]

    async def play(self, script: Script) -> str:
        """Set it; what comes after it is the proof, as `await-in-flight`."""
        servers, node = script.stage.lab.storage_servers, script.nodes[self.node]
        script.undo[f"throttle of {node}"] = lambda: servers.throttle(node, 0)
        await servers.throttle(node, self.bytes_per_s)
        return f"{node} may write {self.bytes_per_s} B/s"


StorageStep = Hold | AwaitHeld | Release | AwaitReissue | AwaitInFlight | Throttle
