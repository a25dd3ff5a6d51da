"""Network faults by `nft`, `tc` and `ss` over any Node: one implementation for the local lab and for SSH.

Packets are dropped on the RECEIVING side. Dropping in the sender's output would not be loss: TCP sees the
local refusal and waits in its persist timer, so nothing would ever be retransmitted. The tables are of
family `ip`, and no queue here loses on purpose, so that ARP goes on: a path does not break by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jepsen_blk.errors import LabError
from jepsen_blk.lab.deeds import OUR_QDISCS, NftTable, RootQdisc, undo
from jepsen_blk.lab.ledger import Ledger, NoLedger
from jepsen_blk.lab.paths import Direction, Dropped, Echoes, Impairment, Latency, Loss, Path_, RateLimit
from jepsen_blk.lab.seams import Node

_PROBE_TIMEOUT_S = 0.5
_PROBE_ECHOES = 3
_ECHO = Path(__file__).with_name("echo.py")
_ECHO_TIMEOUT_S = 10.0
_QUEUE_S = 0.4
_SMALLEST_QUEUE_BYTES = 128 << 10
_BURST_S, _BURST_BYTES = 0.01, (3 << 10, 16 << 10)
"""What may go at once after a silence: little of what an echo's burst measures the rate by."""
_ENDS = "tcp flags & (fin | rst) != 0"
_MOST_DELAYED_PACKETS = 100_000


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
    """Cuts, impairs, resets and probes paths with commands on the nodes.

    The ledger is for nodes that outlive the controller.
    """

    def __init__(self, routes: Mapping[tuple[str, Path_], Route], ledger: Ledger | None = None) -> None:
        self._routes = dict(routes)
        self._ledger = ledger or NoLedger()

    async def cut(self, node: str, path: Path_, direction: Direction = Direction.BOTH) -> None:
        """Drop every packet of the path in that direction."""
        route = self._route(node, path)
        for receiver, sender in _hops(route, direction):
            await _drop(self._ledger, receiver, sender, _table(node, path), "")

    async def hide_ends(self, node: str, path: Path_) -> None:
        """Let everything pass but FIN and RST of the node, at once: none slips through in between.

        The node needs net.ipv4.tcp_retrans_collapse=0, or what is sent again has its FIN in the last data.
        """
        route, table = self._route(node, path), _table(node, path)
        for far in route.far:
            await _drop(self._ledger, far, route.near, table, _ENDS, afresh=True)
        await undo(route.near.node, table)
        await self._ledger.strike(route.near.node, table)

    async def impair(self, node: str, path: Path_, impairment: Impairment) -> None:
        """Make the path worse without cutting it; raises LabError where the kernel cannot."""
        await _impair(self._ledger, self._route(node, path), impairment, _table(node, path))

    async def heal(self, node: str, path: Path_) -> None:
        """Undo `cut`, `impair` and `hide_ends`; no error if there is nothing to undo."""
        route = self._route(node, path)
        table = _table(node, path)
        for end in (route.near, *route.far):
            await undo(end.node, table)
            await self._ledger.strike(end.node, table)
        device = await _device(route)
        shown = await route.near.node.run(["tc", "-j", "qdisc", "show", "dev", device])
        roots = [qdisc["kind"] for qdisc in json.loads(shown.stdout) if qdisc.get("root")]
        for queue in (RootQdisc(device, kind) for kind in OUR_QDISCS):
            if queue.qdisc in roots:
                await undo(route.near.node, queue)
            await self._ledger.strike(route.near.node, queue)

    async def reset(self, node: str, path: Path_) -> int:
        """Kill the node's established connections on the path; return how many there were."""
        return len(await _connections(self._route(node, path), "-K"))

    async def unacknowledged_bytes(self, node: str, path: Path_) -> int:
        """Add up the send queues of the node's established connections on the path."""
        return sum(int(line.split()[1]) for line in await _connections(self._route(node, path)))

    async def reachable(self, node: str, path: Path_) -> bool:
        """Probe the path with a new connection, or with an echo where it has no port that answers."""
        route = self._route(node, path)
        if not route.port:
            return (await self.echo(node, path, _PROBE_ECHOES)).received > 0
        script = f"exec 3<>/dev/tcp/{route.far[0].address}/{route.port}"
        try:
            await route.near.node.run(
                ["timeout", str(_PROBE_TIMEOUT_S), "bash", "-c", script], timeout_s=_PROBE_TIMEOUT_S + 2
            )
        except LabError:
            return False
        return True

    async def dropped(self, node: str, path: Path_) -> Dropped:
        """Return what the drops of `cut` and `impair` have counted at either end."""
        route = self._route(node, path)
        table = _table(node, path)
        out = [await _dropped_at(end, table) for end in route.far]
        return Dropped(out=sum(out), in_=await _dropped_at(route.near, table))

    async def echo(self, node: str, path: Path_, count: int, payload_bytes: int = 56) -> Echoes:
        """Send a burst of echo requests of the node along the path."""
        route = self._route(node, path)
        done = await route.near.node.run(
            ["python3", "-I", "-S", "-", route.far[0].address, str(count), str(payload_bytes)],
            stdin=_ECHO.read_text(encoding="utf-8"),
            timeout_s=_ECHO_TIMEOUT_S,
        )
        return Echoes(**json.loads(done.stdout))

    def _route(self, node: str, path: Path_) -> Route:
        try:
            return self._routes[node, path]
        except KeyError as error:
            raise LabError(f"node {node} has no {path.value} path") from error


async def why_not(node: Node, impairment: Impairment) -> str:
    """Say why the node's kernel cannot impair a path like that, as seen on its loopback; empty if it can."""
    loopback = End(node, "127.0.0.1")
    try:
        await _impair(NoLedger(), Route(loopback, (loopback,)), impairment, NftTable("jepsen_blk_why_not"))
    except LabError as error:
        return str(error)
    return ""


async def _impair(ledger: Ledger, route: Route, impairment: Impairment, table: NftTable) -> None:
    match impairment:
        case Loss(percent):
            for receiver, sender in _hops(route, Direction.BOTH):
                await _drop(
                    ledger, receiver, sender, table, f"numgen random mod 10000 < {round(percent * 100)}"
                )
        case RateLimit(mbit_per_s):
            bytes_per_s = mbit_per_s * 125_000
            queue = max(_SMALLEST_QUEUE_BYTES, round(bytes_per_s * _QUEUE_S))
            burst = min(max(round(bytes_per_s * _BURST_S), _BURST_BYTES[0]), _BURST_BYTES[1])
            rate = ["rate", f"{round(mbit_per_s * 1000)}kbit", "burst", str(burst)]
            await _queue(ledger, route, "tbf", [*rate, "limit", str(queue)])
        case Latency(delay_ms, jitter_ms, reorder_percent, duplicate_percent):
            late = ["limit", str(_MOST_DELAYED_PACKETS), "delay", f"{delay_ms:g}ms", f"{jitter_ms:g}ms"]
            late += ["reorder", f"{reorder_percent:g}%"] if reorder_percent else []
            late += ["duplicate", f"{duplicate_percent:g}%"] if duplicate_percent else []
            await _queue(ledger, route, "netem", late)


async def _connections(route: Route, *options: str) -> list[str]:
    """Return what `ss` says of the near end's established connections: `recv-q send-q local peer` each."""
    lines = []
    for end in route.far:
        command = ["ss", *options, "-H", "-n", "-t", "state", "established", "src", route.near.address]
        done = await route.near.node.run([*command, "dst", end.address])
        lines += [line for line in done.stdout.splitlines() if line.strip()]
    return lines


async def _queue(ledger: Ledger, route: Route, kind: Literal["tbf", "netem"], options: Sequence[str]) -> None:
    """Have what the near end sends wait in a queue of that kind."""
    device = await _device(route)
    await ledger.enter(route.near.node, RootQdisc(device, kind))
    await route.near.node.run(["tc", "qdisc", "replace", "dev", device, "root", kind, *options])


async def _device(route: Route) -> str:
    """Return the device by which the near end reaches the far one."""
    found = await route.near.node.run(["ip", "-j", "route", "get", route.far[0].address])
    return str(json.loads(found.stdout)[0]["dev"])


def _hops(route: Route, direction: Direction) -> Iterator[tuple[End, End]]:
    """Every receiver and its sender, in that direction."""
    for far in route.far:
        if direction is not Direction.IN:
            yield far, route.near
        if direction is not Direction.OUT:
            yield route.near, far


async def _drop(
    ledger: Ledger, receiver: End, sender: End, table: NftTable, which: str, *, afresh: bool = False
) -> None:
    """Drop what comes from the sender: all of it, or `which`; `afresh`: in place of what was dropped."""
    rules = (
        f"{table.removal if afresh else ''}\n"
        f"table ip {table.table} {{\n"
        "  chain input {\n"
        "    type filter hook input priority 0; policy accept;\n"
        f"    ip saddr {sender.address} ip daddr {receiver.address} {which} counter drop\n"
        "  }\n"
        "}\n"
    )
    await ledger.enter(receiver.node, table)
    await receiver.node.run(["nft", "-f", "-"], stdin=rules)


async def _dropped_at(end: End, table: NftTable) -> int:
    """Add up what the counters of the table's rules say; 0 where there is no such table."""
    shown = await end.node.run(["nft", "-j", "list", "ruleset"])
    rules = (item["rule"] for item in json.loads(shown.stdout)["nftables"] if "rule" in item)
    return sum(
        int(part["counter"]["packets"])
        for rule in rules
        if rule["table"] == table.table
        for part in rule["expr"]
        if "counter" in part
    )


def _table(node: str, path: Path_) -> NftTable:
    return NftTable(f"jepsen_blk_{node}_{path.value}")
