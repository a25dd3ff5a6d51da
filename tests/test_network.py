"""Cuts, resets and probes of paths, by real commands on real namespaces."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from wired import FAR, NEAR, wired_nodes

from jepsen_blk.errors import LabError
from jepsen_blk.lab.local.namespaces import LocalNode, Namespaces
from jepsen_blk.lab.network import CommandNetwork, End, Route, why_not
from jepsen_blk.lab.paths import Direction, Dropped, Latency, Loss, Path_, RateLimit

PORT = 9000
ECHO = f"""
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            while data := self.request.recv(4096):
                print("got", len(data), flush=True)
                self.request.sendall(data)
        except ConnectionResetError:
            pass
        print("end of", self.client_address[1], flush=True)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
with Server(("{FAR}", {PORT}), Echo) as server:
    print("listening", flush=True)
    server.serve_forever()
"""


async def lab(scenario: Callable[[CommandNetwork, LocalNode, LocalNode], Awaitable[None]], log: Path) -> None:
    """Run a scenario on two nodes joined by a wire, with an echo server on the far one."""
    namespaces = await Namespaces.create()
    try:
        near, far = await wired_nodes(namespaces)
        server = await far.start(["python3", "-c", ECHO], log=log)
        while b"listening" not in log.read_bytes():
            assert server.running, log.read_text()
            await asyncio.sleep(0.01)
        route = Route(End(near, NEAR), (End(far, FAR),), PORT)
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
        script = f"exec 3<>/dev/tcp/{FAR}/{PORT}; {talk}"
        client = await near.start(["bash", "-c", script], log=tmp_path / "client")
        while b"hi" not in (tmp_path / "client").read_bytes():
            await asyncio.sleep(0.01)
        assert await network.reset("x", Path_.STORAGE) == 1
        await client.wait(10)
        assert "end 1" in (tmp_path / "client").read_text()

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_what_a_dead_process_had_sent_arrives_and_its_end_only_once_the_path_is_healed(
    tmp_path: Path,
) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    script = f"exec 3<>/dev/tcp/{FAR}/{PORT}; echo open; while [ ! -e {go} ]; do sleep 0.01; done; "

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        await near.run(["sysctl", "-qw", "net.ipv4.tcp_retrans_collapse=0"])
        client = await near.start(
            ["bash", "-c", f"{script} echo hello >&3; sleep 60 3>&-"], log=tmp_path / "c"
        )
        await until(lambda: "open" in (tmp_path / "c").read_text())
        await network.cut("x", Path_.STORAGE)
        assert await network.unacknowledged_bytes("x", Path_.STORAGE) == 0
        go.touch()
        while await network.unacknowledged_bytes("x", Path_.STORAGE) != len("hello\n"):
            await asyncio.sleep(0.01)
        await client.kill()
        await network.hide_ends("x", Path_.STORAGE)
        await until(lambda: "got 6" in log.read_text())
        assert await network.reachable("x", Path_.STORAGE)
        while not (await network.dropped("x", Path_.STORAGE)).out:  # its end, which was sent and lost
            await asyncio.sleep(0.01)
        assert "end" not in log.read_text()
        await network.heal("x", Path_.STORAGE)
        await until(lambda: "end" in log.read_text())

    asyncio.run(lab(scenario, log))


@pytest.mark.parametrize("direction", [Direction.OUT, Direction.IN])
def test_a_one_way_cut_drops_at_the_receiver_of_that_direction_alone(
    direction: Direction, tmp_path: Path
) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        await network.cut("x", Path_.STORAGE, direction)
        assert await network.dropped("x", Path_.STORAGE) == Dropped(0, 0)
        assert not await network.reachable("x", Path_.STORAGE)
        assert (await network.echo("x", Path_.STORAGE, 3)).received == 0
        dropped = await network.dropped("x", Path_.STORAGE)
        lost, kept = (dropped.out, dropped.in_) if direction is Direction.OUT else (dropped.in_, dropped.out)
        assert lost >= 4
        assert kept == 0
        await network.heal("x", Path_.STORAGE)
        assert await network.dropped("x", Path_.STORAGE) == Dropped(0, 0)
        assert (await network.echo("x", Path_.STORAGE, 3)).received == 3

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_a_path_without_a_port_is_probed_by_an_echo(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        route = Route(End(near, NEAR), (End(far, FAR),))
        network = CommandNetwork({("x", Path_.MIGRATION): route})
        assert await network.reachable("x", Path_.MIGRATION)
        await network.cut("x", Path_.MIGRATION)
        assert not await network.reachable("x", Path_.MIGRATION)

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_a_loss_is_seen_by_echoes_and_counted_where_it_happens(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        whole = await network.echo("x", Path_.STORAGE, 1000)
        assert (whole.received, whole.duplicates, whole.out_of_order) == (1000, 0, 0)
        await network.impair("x", Path_.STORAGE, Loss(50))
        lossy = await network.echo("x", Path_.STORAGE, 1000)
        assert 150 < lossy.received < 350  # a quarter: both directions lose half
        dropped = await network.dropped("x", Path_.STORAGE)
        assert dropped.out + dropped.in_ == 1000 - lossy.received
        assert min(dropped.out, dropped.in_) > 100
        await network.heal("x", Path_.STORAGE)
        assert (await network.echo("x", Path_.STORAGE, 1000)).received == 1000

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_a_rate_limit_is_the_rate_that_echoes_come_at(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        fast = await network.echo("x", Path_.STORAGE, 200, 1400)
        await network.impair("x", Path_.STORAGE, RateLimit(4))
        slow = await network.echo("x", Path_.STORAGE, 200, 1400)
        assert 3 < slow.mbit_per_s < 4.4
        assert fast.mbit_per_s > 20
        await network.impair("x", Path_.STORAGE, RateLimit(8))  # takes the place of the first
        await network.heal("x", Path_.STORAGE)
        assert (await network.echo("x", Path_.STORAGE, 200, 1400)).mbit_per_s > 20
        await network.heal("x", Path_.STORAGE)

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_what_the_kernel_offers_works_and_what_it_lacks_has_a_reason(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        assert await why_not(near, Loss(1)) == await why_not(near, RateLimit(1)) == ""
        late = Latency(delay_ms=50, reorder_percent=20, duplicate_percent=20)
        reason = await why_not(near, late)
        if reason:
            assert "netem" in reason
            with pytest.raises(LabError, match="netem"):
                await network.impair("x", Path_.STORAGE, late)
        else:
            await network.impair("x", Path_.STORAGE, late)
            echoes = await network.echo("x", Path_.STORAGE, 500)
            assert echoes.rtt_ms >= 40
            assert min(echoes.duplicates, echoes.out_of_order) > 0
        await network.heal("x", Path_.STORAGE)

    asyncio.run(lab(scenario, tmp_path / "log"))


def test_an_unknown_path_is_an_error_that_names_it(tmp_path: Path) -> None:
    async def scenario(network: CommandNetwork, near: LocalNode, far: LocalNode) -> None:
        with pytest.raises(LabError, match="node x has no migration path"):
            await network.cut("x", Path_.MIGRATION)

    asyncio.run(lab(scenario, tmp_path / "log"))
