"""What a fault does to a node that outlives the controller: how it is undone, and whether it still stands.

These are all there are. What undoes a deed is built here from its few words, each of a known form, and from
nothing else: a ledger that was written by somebody else can at most undo what is ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from jepsen_blk.lab.processes import ProcessId, signal_argv, state
from jepsen_blk.lab.seams import Node

OUR_QDISCS: tuple[Literal["tbf", "netem"], ...] = ("tbf", "netem")
_PREFIX = "jepsen_blk_"
_STRICT = ConfigDict(extra="forbid", strict=True)

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NftTable:
    """A table of family ip whose rules drop packets."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    table: Annotated[str, Field(pattern=rf"^{_PREFIX}[A-Za-z0-9_.-]{{1,100}}$")]
    kind: Literal["nft-table"] = "nft-table"

    @property
    def name(self) -> str:
        """A name that no other deed on the node has."""
        return f"nft-{self.table}"

    @property
    def removal(self) -> str:
        """What nft is told; adding the table first makes that succeed whether or not it stood."""
        return f"add table ip {self.table}; delete table ip {self.table}"

    @property
    def undo(self) -> tuple[Argv, ...]:
        """The commands that undo it."""
        return (("nft", self.removal),)

    async def stands(self, node: Node) -> bool:
        """Tell whether the node has the table."""
        shown = await node.run(["nft", "-j", "list", "tables"])
        tables = (item.get("table", {}) for item in json.loads(shown.stdout)["nftables"])
        return any((table.get("family"), table.get("name")) == ("ip", self.table) for table in tables)

    def __str__(self) -> str:
        return f"packets dropped by nft table {self.table}"


@dataclass(frozen=True, slots=True)
class RootQdisc:
    """A queueing discipline at the root of a device that slows or delays what is sent."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    device: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.:@-]{0,14}$")]
    qdisc: Literal["tbf", "netem"]
    kind: Literal["root-qdisc"] = "root-qdisc"

    @property
    def name(self) -> str:
        """A name that no other deed on the node has."""
        return f"qdisc-{self.device}-{self.qdisc}"

    @property
    def undo(self) -> tuple[Argv, ...]:
        """The commands that undo it; only for where it stands, since any other root would go too."""
        return (("tc", "qdisc", "del", "dev", self.device, "root"),)

    async def stands(self, node: Node) -> bool:
        """Tell whether the device is there and has such a root."""
        shown = await node.run(["tc", "-j", "qdisc", "show"])
        return any(
            qdisc.get("root") and (qdisc["dev"], qdisc["kind"]) == (self.device, self.qdisc)
            for qdisc in json.loads(shown.stdout)
        )

    def __str__(self) -> str:
        return f"what {self.device} sends in a queue of kind {self.qdisc}"


@dataclass(frozen=True, slots=True)
class FrozenProcess:
    """A process that was stopped by a signal."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    pid: Annotated[int, Field(gt=1)]
    started_ticks: Annotated[int, Field(ge=0)]
    kind: Literal["frozen-process"] = "frozen-process"

    @property
    def name(self) -> str:
        """A name that no other deed on the node has."""
        return f"frozen-{self.pid}-{self.started_ticks}"

    @property
    def undo(self) -> tuple[Argv, ...]:
        """The commands that undo it; a process that has the number by now is left alone."""
        return (signal_argv(self._process, "CONT"),)

    async def stands(self, node: Node) -> bool:
        """Tell whether the process is there and stopped."""
        return await state(node, self._process) == "T"

    @property
    def _process(self) -> ProcessId:
        return ProcessId(self.pid, self.started_ticks)

    def __str__(self) -> str:
        return f"process {self.pid} stopped"


Deed = Annotated[NftTable | RootQdisc | FrozenProcess, Field(discriminator="kind")]


async def undo(node: Node, deed: Deed) -> None:
    """Undo a deed that stands; raises LabError when a command fails."""
    for argv in deed.undo:
        await node.run(argv)
