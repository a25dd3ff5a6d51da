"""The holding proxy before stock servers: a write parked on the wire outlives its client."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from nbd_client import NbdClient, data_of
from storage_rig import BOUND_S, Rig, can_connect, free_port, running, until

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage import parking
from jepsen_blk.storage.log import TargetLog
from jepsen_blk.storage.proxy import Proxy, Server
from jepsen_blk.storage.servers import Listen, nbdkit_memory_argv, proxy_argv, qemu_storage_daemon_argv
from jepsen_blk.storage.wire import Stream

A, B, C = (data_of(3, sequence) for sequence in (1, 2, 3))
INITIAL = bytes(BLOCK_BYTES)
SIZE = 1 << 20

ServerArgv = Callable[[Listen, Path], list[str]]


def nbdkit_memory(listen: Listen, directory: Path) -> list[str]:
    return nbdkit_memory_argv(listen, SIZE)


def qemu_storage_daemon(listen: Listen, directory: Path) -> list[str]:
    image = directory / "image, raw"
    with image.open("wb") as file:
        file.truncate(SIZE)
    return qemu_storage_daemon_argv(listen, image, ["x", "y"], directory / "monitor.sock")


@pytest.fixture(params=[nbdkit_memory, qemu_storage_daemon], ids=lambda server: server.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    server: ServerArgv = request.param
    with ExitStack() as stack:
        port = free_port()
        stack.enter_context(running(server(Listen("127.0.0.1", port), tmp_path), tmp_path / "server.log"))
        until(lambda: can_connect(port))
        rig = Rig(stack, tmp_path, {"x": free_port(), "y": free_port()})
        listens = {node: Listen("127.0.0.1", at) for node, at in rig.ports.items()}
        argv = proxy_argv(listens, Listen("127.0.0.1", port), rig.control, rig.log)
        rig.start(argv, tmp_path / "proxy.log")
        yield rig


@pytest.mark.parametrize("how", [{}, {"structured": True}, {"old_option": True}], ids=str)
def test_reads_writes_and_errors_pass_unchanged(rig: Rig, how: dict[str, bool]) -> None:
    x, y = rig.client("x", **how), rig.client("y")
    assert x.size == SIZE
    assert x.write(3, A) == 0
    assert x.read(2, 3) == INITIAL + A + INITIAL
    assert y.read(3) == A
    assert x.try_read(SIZE // BLOCK_BYTES) != 0
    assert x.write(SIZE // BLOCK_BYTES, A) != 0
    assert x.read(3) == A
    lines = until(lambda: rig.lines("write")[1:] and rig.lines("write"))
    assert [(line["outcome"], line["action"]) for line in lines] == [("ok", "apply"), ("error", "apply")]
    first = lines[0]
    assert (first["node"], first["block"], first["value"], first["process"]) == ("x", 3, 1, 3)
    assert first["received"] <= first["applied"] == first["done"]


def test_a_parked_write_is_delivered_after_its_client_died(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    assert x.write(3, C) == 0
    hold, _ = rig.hold(x, "x", 3, A)
    x.die()
    assert y.read(3) == C
    assert y.write(3, B) == 0
    rig.ask("wait_writes", node="y", block=3, count=1, timeout_s=BOUND_S)
    assert [write["held"] for write in rig.in_flight("x")] == [True]
    rig.land(hold)
    assert y.read(3) == A
    [line] = [line for line in rig.lines("write") if line["action"] == "park"]
    assert (line["node"], line["value"], line["outcome"]) == ("x", 1, "ok")
    assert until(lambda: rig.lines("disconnect"))[0]["node"] == "x"


def test_a_client_that_left_in_order_behind_its_parked_write_still_has_it_delivered(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    hold, _ = rig.hold(x, "x", 3, A)
    x.send_disconnect()
    x.close()
    assert y.read(3) == INITIAL
    rig.land(hold)
    assert y.read(3) == A
    until(lambda: rig.lines("disconnect"))


def test_everything_behind_a_parked_write_is_parked(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    hold, first = rig.hold(x, "x", 3, A)
    behind = data_of(4, 2)
    second, read = x.send_write(4, behind), x.send_read(5)
    until(lambda: len(rig.in_flight("x")) == 2)
    assert y.read(3) == INITIAL
    assert not x.answered(read)
    rig.land(hold)
    assert (x.reply(first), x.reply(second), x.reply(read)) == (0, 0, 0)
    assert (y.read(3), y.read(4)) == (A, behind)
    assert x.write(3, C) == 0


def test_a_second_hold_on_the_parked_bytes_stays_until_its_own_release(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    first, _ = rig.hold(x, "x", 3, A)
    second, held = rig.hold(x, "x", 4, data_of(4, 7))
    x.send_write(5, data_of(5, 8))
    rig.land(first)
    assert y.read(3) == A
    assert y.read(4, 2) == INITIAL + INITIAL
    rig.land(second)
    assert x.reply(held) == 0
    assert y.read(4) == data_of(4, 7)


def test_a_node_reconnects_while_its_dead_connection_is_parked(rig: Rig) -> None:
    x = rig.client("x")
    hold, _ = rig.hold(x, "x", 3, A)
    x.die()
    again = rig.client("x")
    assert again.write(3, A) == 0
    assert again.write(3, B) == 0
    rig.ask("wait_writes", node="x", block=3, count=2, timeout_s=BOUND_S)
    rig.land(hold)
    assert again.read(3) == A


@pytest.mark.parametrize(
    ("do", "fields"),
    [
        ("fence", {"node": "x", "abort": True}),
        ("raise_epoch", {"node": "x"}),
        ("single_writer", {"node": "x"}),
    ],
)
def test_a_stock_server_has_no_fencing(rig: Rig, do: str, fields: dict[str, object]) -> None:
    assert rig.refusal(do, **fields) == "the stock server has no fencing"


def test_a_stock_server_has_no_misbehaviours(rig: Rig) -> None:
    assert rig.refusal("behave", misbehaviour=1) == "the stock server has no misbehaviours"


def test_waits_time_out_and_unknown_holds_are_named(rig: Rig) -> None:
    hold = rig.ask("hold", node="x", blocks=[1])["hold"]
    assert rig.refusal("wait_held", hold=hold, timeout_s=0) == "timeout"
    assert rig.refusal("release", hold=7) == "there is no hold 7"


def test_a_client_that_speaks_no_nbd_disturbs_nobody(rig: Rig, tmp_path: Path) -> None:
    x, y = rig.client("x"), rig.client("y")
    x.socket.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
    with pytest.raises(ConnectionError):
        x._receive(1)
    assert y.write(3, A) == 0
    assert "no NBD request" in until(lambda: (tmp_path / "proxy.log").read_text())


def test_what_a_client_never_heard_of_is_seen_to_come_again(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    rig.hold(x, "x", 3, A)
    x.send_write(4, data_of(4, 9))
    until(lambda: len(rig.in_flight("x")) == 2)
    x.close()
    assert [y.write(block, data) for block, data in ((3, A), (3, B))] == [0, 0]
    assert rig.ask("reissues", node="y")["count"] == 1
    until(lambda: not y.write(4, data_of(4, 9)) and rig.ask("reissues", node="y")["count"] == 2)


def test_sigterm_ends_the_proxy_in_order_with_a_complete_log(rig: Rig) -> None:
    x = rig.client("x")
    assert x.write(3, B) == 0
    rig.hold(x, "x", 3, A)
    rig.process.terminate()
    assert rig.process.wait(BOUND_S) == 0
    assert [line["outcome"] for line in rig.lines("write")] == ["ok", "error"]


def test_qemu_works_through_the_proxy(rig: Rig) -> None:
    uri = f"nbd://127.0.0.1:{rig.ports['x']}/x"
    commands = ["-c", "write -P 5 8k 64k", "-c", "write -z 16k 4k", "-c", "flush", "-c", "read -P 5 8k 8k"]
    commands += ["-c", "read -P 0 16k 4k", "-c", "read -P 5 20k 52k"]
    subprocess.run(["qemu-io", "-f", "raw", *commands, uri], check=True, timeout=30, capture_output=True)
    shown = subprocess.run(
        ["qemu-img", "info", "--output=json", uri], check=True, timeout=30, capture_output=True, text=True
    )
    assert json.loads(shown.stdout)["virtual-size"] == SIZE


def test_a_server_on_a_unix_socket_is_reached(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = tmp_path / "nbd.sock"
        stack.enter_context(
            running(["nbdkit", "-f", "-U", str(server), "memory", f"size={SIZE}"], tmp_path / "server.log")
        )
        until(lambda: can_connect(server))
        rig = Rig(stack, tmp_path, {"x": free_port()})
        argv = proxy_argv({"x": Listen("127.0.0.1", rig.ports["x"])}, server, rig.control, rig.log)
        rig.start(argv, tmp_path / "proxy.log")
        x = rig.client("x")
        hold, cookie = rig.hold(x, "x", 3, A)
        rig.land(hold)
        assert x.reply(cookie) == 0


def test_an_unreachable_server_costs_the_client_its_connection(tmp_path: Path) -> None:
    with ExitStack() as stack:
        rig = Rig(stack, tmp_path, {"x": free_port()})
        listens = {"x": Listen("127.0.0.1", rig.ports["x"])}
        argv = proxy_argv(listens, tmp_path / "nowhere.sock", rig.control, rig.log)
        rig.start(argv, tmp_path / "proxy.log")
        with pytest.raises(ConnectionError):
            NbdClient(rig.ports["x"], "x")
        assert "cannot be reached" in (tmp_path / "proxy.log").read_text()


def test_a_parked_write_may_stay_longer_than_last_replies_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "LAST_REPLIES_S", 0.0)
    server, at = free_port(), free_port()

    def send() -> NbdClient:
        client = NbdClient(at, "x")
        client.send_write(3, A)
        return client

    async def scenario() -> None:
        proxy = Proxy(Server(Listen("127.0.0.1", server)), log)
        served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.Task[None]]] = asyncio.Queue()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(proxy.serve("x", Stream(reader, writer)))
            served.put_nowait((reader, task))

        async with asyncio.timeout(BOUND_S), await asyncio.start_server(accept, "127.0.0.1", at):
            await proxy.answer(b'{"do":"hold","node":"x"}')
            client = await asyncio.to_thread(send)
            await proxy.answer(b'{"do":"wait_held","hold":1,"timeout_s":10}')
            client.die()
            reader, task = await served.get()
            while reader.exception() is None and not reader.at_eof():
                await asyncio.sleep(0.001)
            for _ in range(50):
                await asyncio.sleep(0)
            await proxy.answer(b'{"do":"release","hold":1}')
            await task

    log = TargetLog(tmp_path / "target.jsonl")
    argv = nbdkit_memory_argv(Listen("127.0.0.1", server), SIZE)
    with closing(log), running(argv, tmp_path / "server.log"):
        until(lambda: can_connect(server))
        asyncio.run(scenario())
        with closing(NbdClient(server, "x")) as x:
            until(lambda: x.read(3) == A)
