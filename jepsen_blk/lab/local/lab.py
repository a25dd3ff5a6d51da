"""The local lab: nodes X, Y and storage in namespaces, two networks, one guest.

    storage network    10.77.0.0/24   x .11, y .12, storage .1
    migration network  10.78.0.0/24   x .11, y .12

Everything lives in the lab's own namespaces (see namespaces.py), and the addresses are those of that
network namespace alone: they meet no address of the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.lab.abilities import Ability
from jepsen_blk.lab.local.accelerator import choose
from jepsen_blk.lab.local.environment import describe_environment, first_line
from jepsen_blk.lab.local.hypervisor import Place, QemuHypervisor
from jepsen_blk.lab.local.image import ensure_image
from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces
from jepsen_blk.lab.local.qemu import BINARY, Machine, iscsi_disk, nbd_disk
from jepsen_blk.lab.local.snapshot import ensure_snapshot
from jepsen_blk.lab.local.storage_node import LocalStorage, start_storage, storage_ports
from jepsen_blk.lab.local.tgt import require_tgt
from jepsen_blk.lab.network import CommandNetwork, End, Route, why_not
from jepsen_blk.lab.paths import Impairment, Path_
from jepsen_blk.lab.seams import GuestStream
from jepsen_blk.spec import Spec
from jepsen_blk.storage.used_device import refuse_used_device, wipe_device

GUEST_NODES = ("x", "y")
STORAGE_NODE = "storage"
STORAGE_ADDRESS = "10.77.0.1"
_HOSTS = {"x": 11, "y": 12, STORAGE_NODE: 1}
_NETWORKS = {Path_.STORAGE: "10.77.0", Path_.MIGRATION: "10.78.0"}
_SYSCTLS = {
    "net.ipv4.tcp_keepalive_time": 1,
    "net.ipv4.tcp_keepalive_intvl": 1,
    "net.ipv4.tcp_keepalive_probes": 2,
    "net.ipv4.tcp_retries2": 3,
    "net.ipv4.tcp_retrans_collapse": 0,
}
"""QEMU's NBD client never times out by itself; with these a silent partition is an error after 3 s. The
storage node has none of them: it may keep a silent client's connection, and what that sent may still come.
What ends a connection stays a packet of its own when it is sent again: see `Network.hide_ends`."""


@dataclass(frozen=True, slots=True)
class PreparedLocalLab:
    """Image, pre-booted state and accelerator are ready; implements lab.seams.PreparedLab."""

    spec: Spec
    machine: Machine
    snapshot: Path
    environment: dict[str, str]

    def new_run(self) -> int:
        """Draw a number that no other run has."""
        return secrets.randbits(63)

    async def why_not(self, wanted: Impairment | Ability) -> str:
        """Try it on a loopback, in namespaces of the same kernel; return the refusal."""
        if isinstance(wanted, Ability):
            return ""
        namespaces = await Namespaces.create()
        try:
            return await why_not(await namespaces.node("trial"), wanted)
        finally:
            await namespaces.destroy()

    async def up(self, run_dir: Path, stream: GuestStream) -> LocalLab:
        """Bring the lab up with the guest running on X and Y's QEMU waiting."""
        namespaces = await Namespaces.create()
        try:
            return await _build(self, namespaces, run_dir, stream)
        except BaseException:
            await namespaces.destroy()
            raise


class LocalLab:
    """Implements lab.seams.Lab."""

    def __init__(
        self,
        namespaces: Namespaces,
        nodes: dict[str, LocalNode],
        network: CommandNetwork,
        hypervisor: QemuHypervisor,
        storage: LocalStorage,
    ) -> None:
        self._namespaces = namespaces
        self._nodes = nodes
        self.network = network
        self.hypervisor = hypervisor
        self.storage = storage.control
        self.storage_servers = storage
        self.guest_nodes = GUEST_NODES
        self.storage_node = STORAGE_NODE

    async def freeze(self, node: str) -> None:
        """Stop the node's QEMU or storage servers."""
        await self._nodes[node].freeze()

    async def thaw(self, node: str) -> None:
        """Let them go on."""
        self._nodes[node].thaw()

    async def frozen(self, node: str) -> bool:
        """Tell whether they are stopped."""
        return self._nodes[node].frozen

    def how_to_enter(self) -> str:
        """Give the command that opens a shell on node X."""
        return f"{self._namespaces.shell_command(GUEST_NODES[0])} (nodes: x, y, storage)"

    async def down(self) -> None:
        """End the guests, then the namespaces with everything in them."""
        try:
            await self.hypervisor.close()
        finally:
            await self._namespaces.destroy()


async def prepare_local_lab(spec: Spec) -> PreparedLocalLab:
    """Make the image and the pre-booted state ready; raises UserError for what this machine lacks."""
    if spec.storage.kind == "tgt":
        await asyncio.to_thread(require_tgt)
    if spec.storage.backing is not None:
        refuse_used_device(spec.storage.backing, spec.size_bytes)
    accelerator = await asyncio.to_thread(choose, spec.guest.accelerator)
    image = await asyncio.to_thread(ensure_image, spec.guest.kernel)
    machine = Machine(
        image,
        accelerator.name,
        spec.guest.memory_mb,
        spec.guest.disk_errors,
        write_cache=spec.storage.cache == "volatile",
    )
    version = await first_line(BINARY, "--version")
    snapshot = await ensure_snapshot(machine, spec.size_bytes, version)
    environment = await describe_environment(machine, version, accelerator.why)
    if spec.storage.kind == "tgt":
        environment["tgtd"] = await first_line("tgtd", "--version")
    return PreparedLocalLab(spec, machine, snapshot, environment)


async def _build(
    prepared: PreparedLocalLab, namespaces: Namespaces, run_dir: Path, stream: GuestStream
) -> LocalLab:
    run_dir = run_dir.resolve()
    if run_dir.is_relative_to("/run"):
        raise UserError(f"{run_dir}: the lab has a /run of its own; choose a store elsewhere with --store")
    logs = run_dir / "logs"
    nodes = await make_nodes(namespaces)
    ports = storage_ports(prepared.spec.storage.kind)
    network = CommandNetwork(_routes(nodes, ports))
    places = {name: _place(prepared.spec, nodes[name], ports[name]) for name in GUEST_NODES}
    hypervisor = QemuHypervisor(
        prepared.machine, prepared.snapshot, places, namespaces, network, logs, stream.attach
    )
    for name in GUEST_NODES:
        await stream.listen(name, namespaces.run_dir / f"agent-{name}.sock")
    if prepared.spec.storage.backing is not None:
        await asyncio.to_thread(wipe_device, prepared.spec.storage.backing, prepared.spec.size_bytes)
    storage = await start_storage(prepared.spec, nodes[STORAGE_NODE], STORAGE_ADDRESS, namespaces, run_dir)
    try:
        async with asyncio.TaskGroup() as starts:
            starts.create_task(hypervisor.start(GUEST_NODES[0]))
            starts.create_task(hypervisor.prepare(GUEST_NODES[1]))
    except* Exception as group:
        with contextlib.suppress(Exception):
            await hypervisor.close()
        raise group.exceptions[0] from None
    return LocalLab(namespaces, nodes, network, hypervisor, storage)


async def make_nodes(namespaces: Namespaces) -> dict[str, LocalNode]:
    """Make the nodes and join them by one bridge a network."""
    for path in _NETWORKS:
        await namespaces.root.run(["ip", "link", "add", f"br-{path.value}", "type", "bridge"])
        await namespaces.root.run(["ip", "link", "set", f"br-{path.value}", "up"])
    nodes = {}
    for name in _HOSTS:
        nodes[name] = await namespaces.node(name)
        if name != STORAGE_NODE:
            await nodes[name].run(["sysctl", "-qw", *(f"{key}={value}" for key, value in _SYSCTLS.items())])
        for path, prefix in _NETWORKS.items():
            if name == STORAGE_NODE and path is not Path_.STORAGE:
                continue
            await _plug(namespaces.root, nodes[name], path, f"{prefix}.{_HOSTS[name]}/24")
    return nodes


async def _plug(root: LocalNode, node: LocalNode, path: Path_, address: str) -> None:
    port, bridge = f"{node.name}-{path.value}"[:15], f"br-{path.value}"
    device = path.value
    peer = ["peer", "name", device, "netns", node.name]
    await root.run(["ip", "link", "add", port, "type", "veth", *peer])
    await root.run(["ip", "link", "set", port, "master", bridge, "up"])
    await node.run(["ip", "addr", "add", address, "dev", device])
    await node.run(["ip", "link", "set", device, "up"])


def _routes(nodes: dict[str, LocalNode], ports: dict[str, int]) -> dict[tuple[str, Path_], Route]:
    routes = {}
    storage = End(nodes[STORAGE_NODE], STORAGE_ADDRESS)
    for name, peer in (GUEST_NODES, GUEST_NODES[::-1]):
        near = {path: End(nodes[name], f"{prefix}.{_HOSTS[name]}") for path, prefix in _NETWORKS.items()}
        far = End(nodes[peer], f"{_NETWORKS[Path_.MIGRATION]}.{_HOSTS[peer]}")
        routes[name, Path_.STORAGE] = Route(near[Path_.STORAGE], (storage,), ports[name])
        routes[name, Path_.MIGRATION] = Route(near[Path_.MIGRATION], (far,))
    return routes


def _place(spec: Spec, node: LocalNode, port: int) -> Place:
    address = f"{_NETWORKS[Path_.MIGRATION]}.{_HOSTS[node.name]}"
    if spec.storage.kind == "tgt":
        return Place(node, address, iscsi_disk(STORAGE_ADDRESS, port, node.name), math.inf)
    delay_s = spec.guest.reconnect_delay_s
    return Place(node, address, nbd_disk(STORAGE_ADDRESS, port, node.name, delay_s), delay_s)
