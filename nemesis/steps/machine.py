"""Steps on the nodes: the guest or its node stops, goes on, dies or is started again elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jepsen_blk.cue_spec import Seen
from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import GuestState
from nemesis.cues import see_guest
from nemesis.guest_work import let_run, require_absent
from nemesis.steps.script import MIGRATION, GuestNode, Plain, Script, Timeout

_DISK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class FailOver(Plain):
    """Start the guest again on the other node, as a cluster does that takes this one for lost."""

    do: Literal["fail-over"]

    async def play(self, script: Script) -> str:
        """Start it; what is left of the old one is killed when the script is over."""
        stage, old = script.stage, script.stage.guest_node
        script.undo[f"the guest left on {old}"] = lambda: stage.lab.hypervisor.kill(old)
        await stage.fail_over()
        return f"a new guest runs on {stage.guest_node}"


@dataclass(frozen=True, slots=True)
class AwaitGuest(Plain):
    """Wait until the guest of a node is in that state."""

    do: Literal["await-guest"]
    node: GuestNode
    state: Seen
    timeout_s: Timeout = 10.0

    async def play(self, script: Script) -> str:
        """Wait for it."""
        node = script.nodes[self.node]
        return await see_guest(script.stage.lab, node, GuestState(self.state), self.timeout_s)


@dataclass(frozen=True, slots=True)
class AwaitDisk(Plain):
    """Wait until a node's hypervisor can read the guest's disk again, as after a mended path."""

    do: Literal["await-disk"]
    node: GuestNode

    async def play(self, script: Script) -> str:
        """Wait for it."""
        node = script.nodes[self.node]
        await script.stage.lab.hypervisor.wait_disk(node, _DISK_TIMEOUT_S)
        return f"the disk of {node} answers"


@dataclass(frozen=True, slots=True)
class Resume(Plain):
    """Let the guest of a node run."""

    do: Literal["resume"]
    node: GuestNode

    async def play(self, script: Script) -> str:
        """Let it run, wherever it is."""
        node = script.nodes[self.node]
        await script.stage.lab.hypervisor.resume(node)
        script.undo.pop(f"pause of {node}", None)
        return f"the guest on {node} runs"


@dataclass(frozen=True, slots=True)
class Pause(Plain):
    """Have the hypervisor of a node stop the guest."""

    do: Literal["pause"]
    node: GuestNode

    async def play(self, script: Script) -> str:
        """Stop it."""
        hypervisor, node = script.stage.lab.hypervisor, script.nodes[self.node]
        script.undo[f"pause of {node}"] = lambda: let_run(script.stage)
        await hypervisor.pause(node)
        await hypervisor.wait_state(node, GuestState.PAUSED, 5)
        return f"the guest on {node} is paused"


@dataclass(frozen=True, slots=True)
class Freeze(Plain):
    """Stop every process of a node, as on a machine that hangs."""

    do: Literal["freeze"]
    node: Literal["x", "y", "storage"]

    async def play(self, script: Script) -> str:
        """Stop them."""
        lab, node = script.stage.lab, script.nodes[self.node]
        script.undo[f"freeze of {node}"] = lambda: lab.thaw(node)
        await lab.freeze(node)
        if not await lab.frozen(node):
            raise LabError(f"the processes of {node} are not stopped")
        return f"the processes of {node} are stopped"


@dataclass(frozen=True, slots=True)
class Thaw(Plain):
    """Let the processes of a frozen node go on."""

    do: Literal["thaw"]
    node: Literal["x", "y", "storage"]

    async def play(self, script: Script) -> str:
        """Let them go on."""
        lab, node = script.stage.lab, script.nodes[self.node]
        await lab.thaw(node)
        if await lab.frozen(node):
            raise LabError(f"the processes of {node} are still stopped")
        script.undo.pop(f"freeze of {node}", None)
        return f"the processes of {node} go on"


@dataclass(frozen=True, slots=True)
class Kill(Plain):
    """Kill the hypervisor of a node at once."""

    do: Literal["kill"]
    node: GuestNode

    async def play(self, script: Script) -> str:
        """Kill it."""
        stage, node = script.stage, script.nodes[self.node]
        await stage.lab.hypervisor.kill(node)
        if node == stage.guest_node:
            script.undo.pop(MIGRATION, None)  # it has died with its source
        return await require_absent(stage, node)


MachineStep = FailOver | AwaitGuest | AwaitDisk | Resume | Pause | Freeze | Thaw | Kill
