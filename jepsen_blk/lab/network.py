"""Network faults by `nft` and `ss` over any Node: one implementation for the local lab and for SSH.

A cut drops on the RECEIVING side of both ends. Dropping in the sender's output would not be loss:
TCP sees the local refusal and waits in its persist timer, so nothing would ever be retransmitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import Node, Path_

_PROBE_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class End:
    """One end of a path: a node and its address on that path's network."""

    node: Node
    address: str


@dataclass(frozen=True, slots=True)
class Route:
    """A path of one node: its own end, the ends it talks to, and a port that answers there (0: none)."""

    near: End
    far: tuple[End, ...]
    port: int = 0


class CommandNetwork:
    """Cuts, resets and probes paths with commands on the nodes."""

    def __init__(self, routes: Mapping[tuple[str, Path_], Route]) -> None:
        self._routes = dict(routes)

    async def cut(self, node: str, path: Path_) -> None:
        """Drop every packet of the path in both directions."""
        route = self._route(node, path)
        await self._drop(route.near, route.far, _table(node, path))
        for end in route.far:
            await self._drop(end, (route.near,), _table(node, path))

    async def heal(self, node: str, path: Path_) -> None:
        """Undo `cut`; no error if it was not cut."""
        route = self._route(node, path)
        table = _table(node, path)
        for end in (route.near, *route.far):
            # An empty declaration first makes the deletion succeed whether or not the table stood.
            await end.node.run(["nft", "-f", "-"], stdin=f"table ip {table} {{}}\ndelete table ip {table}\n")

    async def reset(self, node: str, path: Path_) -> int:
        """Kill the node's established connections on the path; return how many there were."""
        route = self._route(node, path)
        killed = 0
        for end in route.far:
            command = ["ss", "-K", "-H", "-t", "state", "established", "src", route.near.address]
            done = await route.near.node.run([*command, "dst", end.address])
            killed += sum(1 for line in done.stdout.splitlines() if line.strip())
        return killed

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path with a new connection of the node."""
        route = self._route(node, path)
        if not route.port:
            raise LabError(f"the {path.value} path of {node} has no port to probe")
        script = f"exec 3<>/dev/tcp/{route.far[0].address}/{route.port}"
        try:
            await route.near.node.run(
                ["timeout", str(_PROBE_TIMEOUT_S), "bash", "-c", script], timeout_s=_PROBE_TIMEOUT_S + 2
            )
        except LabError:
            return False
        return True

    async def _drop(self, at: End, sources: Sequence[End], table: str) -> None:
        addresses = ", ".join(end.address for end in sources)
        rules = (
            f"table ip {table} {{\n"
            "  chain input {\n"
            "    type filter hook input priority 0; policy accept;\n"
            f"    ip saddr {{ {addresses} }} ip daddr {at.address} counter drop\n"
            "  }\n"
            "}\n"
        )
        await at.node.run(["nft", "-f", "-"], stdin=rules)

    def _route(self, node: str, path: Path_) -> Route:
        try:
            return self._routes[node, path]
        except KeyError as error:
            raise LabError(f"node {node} has no {path.value} path") from error


def _table(node: str, path: Path_) -> str:
    return f"jepsen_blk_{node}_{path.value}"
