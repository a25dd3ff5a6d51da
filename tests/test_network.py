"""Cuts, resets and probes of paths, by real commands on real namespaces."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces
from jepsen_blk.lab.network import CommandNetwork, End, Route
from jepsen_blk.lab.seams import Path_

PORT = 9000
ECHO = f"""
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
with Server(("10.1.0.1", {PORT}), Echo) as server:
    print("listening", flush=True)
    server.serve_forever()
"""


async def lab(scenario: Callable[[CommandNetwork, LocalNode, LocalNode], Awaitable[None]], log: Path) -> None:
    """Run a scenario on two nodes joined by a wire, with an echo server on the far one."""
    namespaces = await Namespaces.create()
    try:
        near, far = await namespaces.node("x"), await namespaces.node("storage")
        await near.run(
            ["ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", "storage"]
        )
        for node, address in ((near, "10.1.0.2/24"), (far, "10.1.0.1/24")):
            await node.run(["ip", "addr", "add", address, "dev", "wire"])
            await node.run(["ip", "link", "set", "wire", "up"])
        server = await far.start(["python3", "-c", ECHO], log=log)
        while b"listening" not in log.read_bytes():
            assert server.running, log.read_text()
            await asyncio.sleep(0.01)
        route = Route(End(near, "10.1.0.2"), (End(far, "10.1.0.1"),), PORT)
        await scenario(CommandNetwork({("x", Path_.STORAGE): route}), near, far)
    finally:
        await namespaces.destroy()


def test_a_cut_path_is_unreachable_until_it_is_healed(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        assert await network.reachable("x", Path_.STORAGE)
        await network.cut("x", Path_.STORAGE)
        assert not await network.reachable("x", Path_.STORAGE)
        await network.heal("x", Path_.STORAGE)
        assert await network.reachable("x", Path_.STORAGE)
        await network.heal("x", Path_.STORAGE)  # healing what is whole is no error

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_a_reset_kills_the_established_connections_and_counts_them(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        assert await network.reset("x", Path_.STORAGE) == 0
        talk = "echo hi >&3; read -r l <&3; echo $l; read -r l <&3; echo end $?"
        script = f"exec 3<>/dev/tcp/10.1.0.1/{PORT}; {talk}"
        client = await near.start(["bash", "-c", script], log=tmp_path / "client")
        while b"hi" not in (tmp_path / "client").read_bytes():
            await asyncio.sleep(0.01)
        assert await network.reset("x", Path_.STORAGE) == 1
        await client.wait(10)
        assert "end 1" in (tmp_path / "client").read_text()

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_an_unknown_path_is_an_error_that_names_it(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        with pytest.raises(LabError, match="node x has no migration path"):
            await network.cut("x", Path_.MIGRATION)

    asyncio.run(lab(scenario, tmp_path / "log"))
