"""Stock tgtd behind the holding proxy: writes parked on the wire, and what its reservations really do."""

from __future__ import annotations

import asyncio
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from iscsi_client import CHECK_CONDITION, GOOD, RESERVATION_CONFLICT, IscsiClient
from nbd_client import data_of
from server_hold import held_in_server
from storage_rig import BOUND_S, Rig, can_connect, free_port, running, until

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.iscsi_wire import IscsiWire
from jepsen_blk.storage.servers import TGT_TARGET, Listen, initiator_name, proxy_argv, tgtd_argv, tgtd_setup

A, B, C = (data_of(3, sequence) for sequence in (1, 2, 3))
SIZE = 1 << 20


class Target:
    """A proxy with two nodes' ports before a tgtd, and its initiators."""

    def __init__(self, stack: ExitStack, directory: Path, *, reserve: bool) -> None:
        self._stack = stack
        self.directory = directory
        server, socket, image = Listen("127.0.0.1", free_port()), directory / "tgt", directory / "disk"
        with image.open("wb") as file:
            file.truncate(SIZE)
        self.tgtd = stack.enter_context(running(tgtd_argv(server, socket), directory / "tgtd.log"))
        until(lambda: can_connect(server.port))
        for step in tgtd_setup(socket, image):
            subprocess.run(step, check=True, timeout=BOUND_S)
        self.rig = Rig(stack, directory, {"x": free_port(), "y": free_port()})
        listens = {node: Listen("127.0.0.1", port) for node, port in self.rig.ports.items()}
        argv = proxy_argv(listens, server, self.rig.control, self.rig.log, iscsi=True, reserve=reserve)
        self.rig.start(argv, directory / "proxy.log")

    def client(self, node: str, isid: int = 1) -> IscsiClient:
        client = IscsiClient(self.rig.ports[node], node, isid)
        self._stack.callback(client.close)
        client.settle()
        return client

    def hold(self, client: IscsiClient, node: str, block: int, data: bytes) -> tuple[int, int]:
        hold = self.rig.ask("hold", node=node, blocks=[block])["hold"]
        tag = client.send_write(block, data)
        self.rig.ask("wait_held", hold=hold, timeout_s=BOUND_S)
        return hold, tag


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with ExitStack() as stack:
        yield Target(stack, tmp_path, reserve=False)


@pytest.fixture
def reserving(tmp_path: Path) -> Iterator[Target]:
    with ExitStack() as stack:
        yield Target(stack, tmp_path, reserve=True)


def test_reads_writes_and_errors_pass_and_are_logged(target: Target) -> None:
    x, y = target.client("x"), target.client("y")
    assert x.write(3, A) == GOOD
    assert y.read(3) == A
    assert x.write(SIZE // BLOCK_BYTES, A) == CHECK_CONDITION
    lines = until(lambda: target.rig.lines("write")[1:] and target.rig.lines("write"))
    assert [(line["node"], line["block"], line["value"], line["outcome"]) for line in lines] == [
        ("x", 3, 1, "ok"),
        ("x", SIZE // BLOCK_BYTES, 1, "error"),
    ]
    assert lines[1]["why"].startswith("CHECK CONDITION: ")


def test_a_parked_write_lands_late_although_its_initiator_has_logged_in_again(target: Target) -> None:
    # The same initiator with the same session identifier: by the standard the old session ends. tgt keeps it.
    x = target.client("x", isid=7)
    hold, _ = target.hold(x, "x", 3, A)
    x.die()
    again = target.client("x", isid=7)
    assert again.write(3, A) == GOOD
    assert again.write(3, B) == GOOD
    assert target.rig.ask("reissues", node="x")["count"] == 1
    target.rig.land(hold)
    assert again.read(3) == A
    (late,) = [line for line in target.rig.lines("write") if line["action"] == "park"]
    assert (late["value"], late["outcome"]) == (1, "ok")


def test_everything_behind_a_parked_write_waits_and_is_answered(target: Target) -> None:
    x, y = target.client("x"), target.client("y")
    hold, first = target.hold(x, "x", 3, A)
    second = x.send_write(4, B)
    until(lambda: len(target.rig.in_flight("x")) == 2)
    assert y.read(4) == bytes(BLOCK_BYTES)
    target.rig.land(hold)
    assert (x.reply(first).status, x.reply(second).status) == (GOOD, GOOD)
    assert (y.read(3), y.read(4)) == (A, B)


def test_qemu_works_through_the_proxy_with_writes_of_several_pdus(reserving: Target) -> None:
    portal = f"transport=tcp,portal=127.0.0.1:{reserving.rig.ports['x']},target={TGT_TARGET},lun=1"
    image = f"driver=iscsi,header-digest=none,initiator-name={initiator_name('x')},{portal}"
    commands = ["-c", "write -P 5 8k 256k", "-c", "flush", "-c", "read -P 5 8k 256k", "-c", "read -P 0 0 8k"]
    done = subprocess.run(
        ["qemu-io", *commands, "--image-opts", image], timeout=30, capture_output=True, text=True
    )
    if "Unknown driver" in done.stderr:
        pytest.skip("QEMU has no iSCSI driver")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    (line,) = until(lambda: reserving.rig.lines("write"))
    assert (line["block"], line["outcome"]) == (2, "ok")


def test_a_target_without_reservations_in_use_has_no_fencing(target: Target) -> None:
    assert target.rig.refusal("fence", node="x", abort=False) == "the stock server has no fencing"


def test_preempt_refuses_what_the_target_has_not_accepted_yet(reserving: Target) -> None:
    x, y = reserving.client("x"), reserving.client("y")
    hold, tag = reserving.hold(x, "x", 3, A)
    reserving.rig.ask("unfence", node="y")
    reserving.rig.ask("fence", node="x", abort=False)
    assert y.write(3, B) == GOOD
    reserving.rig.land(hold)
    assert x.reply(tag).sense[2:14:10] == bytes((6, 0x2A))  # a unit attention: reservations preempted
    assert x.write(3, A) == RESERVATION_CONFLICT
    assert (x.read(3), y.read(3)) == (B, B)
    lines = until(lambda: [line for line in reserving.rig.lines("write") if line["outcome"] == "refused"][1:])
    assert lines[0]["why"] == "RESERVATION CONFLICT"
    assert [line["node"] for line in reserving.rig.lines("fence")] == ["x"]


def test_preempt_refuses_a_write_whose_data_the_target_still_waits_for(reserving: Target) -> None:
    x, y = reserving.client("x"), reserving.client("y")
    whole = x.begin_write(3, C)
    x.send_rest(C)
    assert (x.reply(whole).status, y.read(3)) == (GOOD, C)
    tag = x.begin_write(3, A)
    assert y.write(3, B) == GOOD
    reserving.rig.ask("fence", node="x", abort=False)
    x.send_rest(A)
    assert x.reply(tag).status == CHECK_CONDITION
    assert y.read(3) == B


def test_a_fenced_node_gets_no_further_by_logging_in_again_until_it_is_admitted(reserving: Target) -> None:
    reserving.client("x")
    reserving.client("y")
    reserving.rig.ask("fence", node="x", abort=False)
    again = reserving.client("x", isid=2)
    assert again.write(3, A) == RESERVATION_CONFLICT
    reserving.rig.ask("unfence", node="x")
    assert again.write(3, A) == GOOD
    reserving.rig.ask("fence", node="y", abort=False)
    assert reserving.client("y", isid=2).write(3, B) == RESERVATION_CONFLICT


def test_an_old_session_of_a_node_that_is_admitted_again_stays_out(reserving: Target) -> None:
    # A registration is of a session: what the node sent in its first term is told from what it sends now.
    x, y = reserving.client("x"), reserving.client("y")
    hold, _ = reserving.hold(x, "x", 3, A)
    x.die()
    reserving.rig.ask("fence", node="x", abort=False)
    assert y.write(3, B) == GOOD
    again = reserving.client("x", isid=2)
    reserving.rig.ask("unfence", node="x")
    reserving.rig.ask("fence", node="y", abort=False)
    assert again.write(4, B) == GOOD
    reserving.rig.land(hold)
    assert again.read(3) == B


def test_there_has_to_be_another_node_to_preempt(reserving: Target) -> None:
    reserving.client("x")
    why = reserving.rig.refusal("fence", node="x", abort=False)
    assert why == "no other node than x has a session to send PREEMPT on"


def test_tgt_has_no_preempt_and_abort_and_the_node_writes_on(reserving: Target) -> None:
    x, _ = reserving.client("x"), reserving.client("y")
    why = reserving.rig.refusal("fence", node="x", abort=True)
    refusal = "CHECK CONDITION: ILLEGAL REQUEST, invalid field in CDB"
    assert why == f"the target answers PREEMPT AND ABORT with {refusal}"
    assert x.write(3, A) == GOOD
    assert reserving.rig.lines("fence") == []


def test_what_tgt_has_accepted_lands_after_a_preempt(reserving: Target) -> None:
    x, y = reserving.client("x"), reserving.client("y")
    with held_in_server(reserving.tgtd.pid) as hold:
        tag = x.send_write(3, A)
        hold.wait_held(BOUND_S)
        reserving.rig.ask("fence", node="x", abort=False)
        assert x.write(4, B) == CHECK_CONDITION
        assert y.write(3, B) == GOOD
        assert y.read(3) == B
    assert x.reply(tag).status == GOOD
    assert y.read(3) == A


def test_what_a_session_had_accepted_lands_after_its_end(target: Target) -> None:
    x = target.client("x")
    with held_in_server(target.tgtd.pid) as hold:
        x.send_write(3, A)
        hold.wait_held(BOUND_S)
        target.rig.kill()  # with the proxy the session's own connection ends
    place = slice(3 * BLOCK_BYTES, 4 * BLOCK_BYTES)
    until(lambda: (target.directory / "disk").read_bytes()[place] == A)


def test_a_digest_that_cannot_be_followed_ends_the_connection_and_is_named(target: Target) -> None:
    ask = ["--mode", "target", "--op", "update", "--tid", "1", "--name", "HeaderDigest", "--value", "CRC32C"]
    control = f"TGT_IPC_SOCKET={target.directory / 'tgt'}"
    subprocess.run(["env", control, "tgtadm", "--lld", "iscsi", *ask], check=True, timeout=BOUND_S)
    with pytest.raises(ConnectionError):
        IscsiClient(target.rig.ports["x"], "x", digest="CRC32C,None")
    log = target.directory / "proxy.log"
    assert until(
        lambda: "HeaderDigest=CRC32C: the proxy follows no digests; turn them off" in log.read_text()
    )


def test_a_client_that_speaks_no_iscsi_disturbs_nobody(target: Target) -> None:
    x, y = target.client("x"), target.client("y")
    x.socket.sendall(b"\x3c" * 48)
    with pytest.raises(ConnectionError):
        x._pdu()
    assert y.write(3, A) == GOOD
    assert "no iSCSI PDU" in until(lambda: (target.directory / "proxy.log").read_text())


@pytest.mark.parametrize(
    "block",
    [
        struct.pack(">BBHBB", 0x0A, 0, 24, 8, 0),
        struct.pack(">BBIBHB", 0x2A, 0, 24, 0, 8, 0),
        struct.pack(">BBIIBB", 0xAA, 0, 24, 8, 0, 0),
        struct.pack(">BBQIBB", 0x8A, 0, 24, 8, 0, 0),
        struct.pack(">BBIBHB", 0x41, 0, 24, 0, 8, 0),
        struct.pack(">BBQIBB", 0x93, 0, 24, 8, 0, 0),
    ],
    ids=["write6", "write10", "write12", "write16", "write-same10", "write-same16"],
)
def test_every_kind_of_write_is_known_by_its_place(block: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(struct.pack(">BB2xI24x", 0x01, 0xA1, 0) + block.ljust(16, b"\0"))
        span = (await IscsiWire().read_request(reader)).write
        assert span is not None
        assert (span.offset, span.length, span.payload) == (24 * 512, 8 * 512, b"")

    asyncio.run(read())


def test_a_command_of_ours_takes_no_number_from_those_of_the_client() -> None:
    async def make() -> bytes:
        reader, wire = asyncio.StreamReader(), IscsiWire()
        reader.feed_data(struct.pack(">BB2xI16xI20x", 0x01, 0x81, 0, 41))
        wire.sent(await wire.read_request(reader))
        wire.command(1, b"\x5f", bytes(24))
        return wire.command(1, b"\x5f", bytes(24)).raw

    raw = asyncio.run(make())
    assert (raw[0], int.from_bytes(raw[24:28], "big")) == (
        0x41,
        42,
    )  # for immediate delivery, with the next one
