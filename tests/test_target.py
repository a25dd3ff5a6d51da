"""The policy target in a real nbdkit, seen by an NBD client and over its control socket."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from nbd_client import EIO, EPERM, FLAG_SEND_FLUSH, FLAG_SEND_FUA, data_of
from storage_rig import BOUND_S, Rig, ask_raw, policy_target, running, until

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.servers import PLUGIN

A, B, C = (data_of(3, sequence) for sequence in (1, 2, 3))
INITIAL = bytes(BLOCK_BYTES)

Start = Callable[..., Rig]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(policy_target(tmp_path, *args, **options))


def test_arrival_order_lets_the_last_to_finish_stay(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", 3, A)
    assert y.write(3, B) == 0
    assert y.read(3) == B
    rig.land(hold)
    assert x.reply(held) == 0
    assert y.read(3) == A


def test_ignore_second_acknowledges_and_never_applies(target: Start) -> None:
    rig = target(ConflictModel.IGNORE_SECOND)
    x, y = rig.client("x"), rig.client("y")
    hold, _ = rig.hold(x, "x", 3, A)
    assert y.write(3, B) == 0
    assert y.read(3) == INITIAL
    rig.land(hold)
    assert y.read(3) == A
    assert y.write(3, C) == 0
    assert y.read(3) == C


def test_ignore_second_applies_the_free_blocks_of_a_long_write(target: Start) -> None:
    rig = target(ConflictModel.IGNORE_SECOND)
    x, y = rig.client("x"), rig.client("y")
    rig.hold(x, "x", 3, A)
    long = data_of(2, 9, count=3)
    assert y.write(2, long) == 0
    assert y.read(2, 3) == long[:BLOCK_BYTES] + INITIAL + long[2 * BLOCK_BYTES :]


def test_serialize_makes_the_second_wait_for_the_first(target: Start) -> None:
    rig = target(ConflictModel.SERIALIZE)
    x, y = rig.client("x"), rig.client("y")
    hold, first = rig.hold(x, "x", 3, A)
    second = y.send_write(3, B)
    until(lambda: rig.in_flight("y"))
    assert not y.answered(second)
    rig.land(hold)
    assert (x.reply(first), y.reply(second)) == (0, 0)
    assert y.read(3) == B
    actions = until(lambda: [line["action"] for line in rig.lines("write")][1:] and rig.lines("write"))
    assert [line["action"] for line in actions] == ["apply", "wait"]


def test_reject_busy_answers_an_error(target: Start) -> None:
    rig = target(ConflictModel.REJECT_BUSY)
    x, y = rig.client("x"), rig.client("y")
    hold, _ = rig.hold(x, "x", 3, A)
    assert y.write(3, B) == EIO
    rig.land(hold)
    assert y.read(3) == A
    assert y.write(3, B) == 0


def test_drop_on_disconnect_drops_what_the_closed_connection_had_in_flight(target: Start) -> None:
    rig = target(ConflictModel.DROP_ON_DISCONNECT)
    x, y = rig.client("x"), rig.client("y")
    hold, _ = rig.hold(x, "x", 3, A)
    x.die()
    rig.ask("wait_landed", hold=hold, timeout_s=BOUND_S)
    assert rig.in_flight("x") == []
    assert y.read(3) == INITIAL
    [line] = rig.lines("write")
    assert (line["action"], line["outcome"], line["applied"]) == ("abort", "aborted", None)
    assert until(lambda: rig.lines("disconnect"))[0]["node"] == "x"


def test_drop_on_disconnect_spares_the_nodes_other_connection(target: Start) -> None:
    rig = target(ConflictModel.DROP_ON_DISCONNECT)
    main, probe = rig.client("x"), rig.client("x")
    hold, held = rig.hold(main, "x", 3, A)
    probe.die()
    until(lambda: rig.lines("disconnect"))
    assert [write["held"] for write in rig.in_flight("x")] == [True]
    rig.land(hold)
    assert main.reply(held) == 0


def test_a_held_write_outlives_its_connection_and_lands_on_release(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, _ = rig.hold(x, "x", 3, A)
    x.die()
    until(lambda: rig.lines("disconnect"))
    assert [write["held"] for write in rig.in_flight("x")] == [True]
    again = rig.client("x")
    assert again.write(3, B) == 0
    assert y.read(3) == B
    rig.land(hold)
    assert y.read(3) == A
    assert rig.in_flight("x") == []


def test_many_held_writes_freeze_neither_their_connection_nor_another(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    holds = [rig.hold(x, "x", block, data_of(block, 1)) for block in range(100)]
    assert x.write(200, data_of(200, 2)) == 0
    assert y.read(200) == data_of(200, 2)
    for hold, _ in holds:
        rig.ask("release", hold=hold)
    assert [x.reply(cookie) for _, cookie in holds] == [0] * 100


def test_a_fence_refuses_new_commands_and_lets_the_accepted_write_land(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", 3, A)
    rig.ask("fence", node="x", abort=False)
    assert x.write(4, data_of(4, 2)) == EPERM
    assert x.try_read(4) == EPERM
    assert y.write(4, data_of(4, 3)) == 0
    rig.land(hold)
    assert x.reply(held) == 0
    assert y.read(3) == A
    rig.ask("unfence", node="x")
    assert x.write(4, data_of(4, 4)) == 0


def test_an_aborting_fence_is_confirmed_with_nothing_left_in_flight(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", 3, A)
    rig.ask("fence", node="x", abort=True)
    assert rig.in_flight("x") == []
    assert x.reply(held) == EIO
    rig.land(hold)
    assert y.read(3) == INITIAL
    [write], [fence] = rig.lines("write"), rig.lines("fence")
    assert (write["outcome"], write["applied"]) == ("aborted", None)
    assert write["done"] <= fence["time"]


def test_an_aborting_fence_does_not_wait_for_the_write_latency(target: Start) -> None:
    rig = target(latency_ms=60_000)
    x = rig.client("x")
    slow = x.send_write(3, A)
    until(lambda: rig.in_flight("x"))
    rig.ask("fence", node="x", abort=True)
    assert x.reply(slow) == EIO


def test_a_write_of_an_older_epoch_is_refused_when_it_would_be_applied(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", 3, A)
    rig.ask("raise_epoch", node="y")
    assert y.write(3, B) == 0
    rig.land(hold)
    assert x.reply(held) == EPERM
    assert y.read(3) == B
    assert x.write(5, data_of(5, 1)) == EPERM
    refused = [line for line in rig.lines("write") if line["outcome"] == "refused"]
    assert refused[0]["why"] == "epoch 0 is older than 1"


def test_the_single_writer_waits_for_the_flush_of_the_other_nodes_writes(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", 3, A)
    rig.ask("single_writer", node="y")
    waiting = y.send_write(3, B)
    until(lambda: rig.in_flight("y"))
    assert x.write(4, data_of(4, 1)) == EPERM
    assert not y.answered(waiting)
    rig.land(hold)
    assert (x.reply(held), y.reply(waiting)) == (0, 0)
    assert y.read(3) == B


def test_wait_writes_counts_what_completed_since_the_hold_caught_its_write(target: Start) -> None:
    rig = target(ConflictModel.IGNORE_SECOND)
    x, y = rig.client("x"), rig.client("y")
    assert y.write(3, C) == 0
    assert "no hold has caught" in rig.refusal("wait_writes", node="y", block=3, count=1, timeout_s=0)
    rig.hold(x, "x", 3, A)
    assert y.write(3, B) == 0
    assert rig.refusal("wait_writes", node="y", block=3, count=2, timeout_s=0) == "timeout"
    assert y.write(3, B) == 0
    rig.ask("wait_writes", node="y", block=3, count=2, timeout_s=BOUND_S)


def test_wait_writes_does_not_count_what_was_refused(target: Start) -> None:
    rig = target(ConflictModel.REJECT_BUSY)
    x, y = rig.client("x"), rig.client("y")
    rig.hold(x, "x", 3, A)
    assert y.write(3, B) == EIO
    assert rig.refusal("wait_writes", node="y", block=3, count=1, timeout_s=0) == "timeout"


def test_a_hold_without_blocks_catches_the_next_write_of_its_node(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold = rig.ask("hold", node="x")["hold"]
    assert y.write(3, B) == 0
    x.send_write(8, data_of(8, 5))
    write = rig.ask("wait_held", hold=hold, timeout_s=BOUND_S)["write"]
    assert (write["node"], write["block"], write["value"], write["held"]) == ("x", 8, 5, True)


def test_releasing_an_idle_hold_disarms_it(target: Start) -> None:
    rig = target()
    x = rig.client("x")
    hold = rig.ask("hold", node="x", blocks=[3])["hold"]
    rig.land(hold)
    rig.land(hold)
    assert x.write(3, A) == 0
    assert "was released before" in rig.refusal("wait_held", hold=hold, timeout_s=BOUND_S)


@pytest.mark.parametrize("flush", [True, False])
def test_flush_and_fua_are_offered_only_if_asked_for(target: Start, flush: bool) -> None:
    x = target(flush=flush).client("x")
    assert bool(x.flags & FLAG_SEND_FLUSH) is flush
    assert bool(x.flags & FLAG_SEND_FUA) is flush
    if flush:
        assert x.flush() == 0


def test_the_log_tells_the_story_of_a_held_write(target: Start) -> None:
    rig = target()
    x = rig.client("x")
    hold, cookie = rig.hold(x, "x", 3, A)
    [held] = rig.lines("held")
    assert {key: held[key] for key in ("id", "hold", "node", "block", "value")} == {
        "id": 1,
        "hold": hold,
        "node": "x",
        "block": 3,
        "value": 1,
    }
    rig.land(hold)
    assert x.reply(cookie) == 0
    [write], [released] = rig.lines("write"), rig.lines("released")
    times = [write["received"], held["time"], released["time"], write["applied"], write["done"]]
    assert times == sorted(times)
    assert {key: write[key] for key in write if key not in ("received", "applied", "done")} == {
        "f": "write",
        "id": 1,
        "node": "x",
        "block": 3,
        "value": 1,
        "process": 3,
        "action": "apply",
        "outcome": "ok",
        "why": "",
    }
    assert [line["node"] for line in rig.lines("connect")] == ["x"]


def test_no_write_is_acknowledged_before_its_latency(target: Start) -> None:
    rig = target(latency_ms=30)
    x = rig.client("x")
    assert [x.reply(cookie) for cookie in [x.send_write(3, A), x.send_write(3, B)]] == [0, 0]
    lines = until(lambda: rig.lines("write")[1:] and rig.lines("write"))
    assert all(line["done"] - line["received"] >= 30_000_000 for line in lines)


def test_a_backing_file_is_created_sparse_and_keeps_the_data(target: Start, tmp_path: Path) -> None:
    backing = tmp_path / "disk"
    x = target(backing=backing, flush=True, size_bytes=1 << 30).client("x")
    assert (x.write(3, A), x.flush()) == (0, 0)
    assert x.read(2, 2) == INITIAL + A
    assert backing.stat().st_size == 1 << 30
    assert backing.stat().st_blocks * 512 < 1 << 20
    with backing.open("rb") as file:
        file.seek(3 * BLOCK_BYTES)
        assert file.read(BLOCK_BYTES) == A


def test_writes_that_are_no_whole_blocks_are_applied_and_counted_by_block(target: Start) -> None:
    rig = target()
    x = rig.client("x")
    hold = rig.ask("hold", node="x", blocks=[4])["hold"]
    cookie = x._request(1, 4 * BLOCK_BYTES - 512, 1024, A[:1024])
    rig.ask("wait_held", hold=hold, timeout_s=BOUND_S)
    rig.land(hold)
    assert x.reply(cookie) == 0
    assert x.read(3, 2) == bytes(BLOCK_BYTES - 512) + A[:1024] + bytes(BLOCK_BYTES - 512)


def test_stats_count_what_became_of_the_writes(target: Start) -> None:
    rig = target(ConflictModel.IGNORE_SECOND)
    x, y = rig.client("x"), rig.client("y")
    rig.hold(x, "x", 3, A)
    y.write(3, B)
    y.write(4, data_of(4, 1))
    stats = rig.ask("stats")["stats"]
    assert stats == {
        "received": 3,
        "applied": 1,
        "ignored": 1,
        "refused": 0,
        "aborted": 0,
        "errors": 0,
        "held": 1,
        "in_flight": 1,
        "cached": 0,
        "cached_at_start": 0,
    }


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[]\n", "the request is not a JSON object"),
        (b"nonsense\n", "the request is not a JSON object"),
        (b'{"do":"frob"}\n', "unknown request 'frob'; known: hold, "),
        (b'{"do":"hold"}\n', "hold: node is missing"),
        (b'{"do":"fence","node":"x","abort":1}\n', "fence: abort must be a flag, not 1"),
        (b'{"do":"release","hold":1,"x":2}\n', "release: unknown field 'x'"),
        (b'{"do":"release","hold":9}\n', "there is no hold 9"),
        (b'{"do":"wait_landed","hold":9,"timeout_s":1}\n', "there is no hold 9"),
        (b'{"do":"behave","misbehaviour":9}\n', "there is no misbehaviour 9"),
    ],
)
def test_a_bad_control_request_is_refused_in_one_line(target: Start, line: bytes, why: str) -> None:
    reply = ask_raw(target().control, line)
    assert reply["ok"] is False
    assert reply["error"].startswith(why)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["size=4096"], "control=... is missing"),
        (["conflict=shrug"], "'shrug' is not a valid ConflictModel"),
        (["fluhs=true"], "unknown key 'fluhs'"),
    ],
)
def test_nbdkit_refuses_keys_that_make_no_target(tmp_path: Path, keys: list[str], why: str) -> None:
    if len(keys) == 1 and not keys[0].startswith("size"):
        keys = ["size=4096", f"control={tmp_path}/c", f"log={tmp_path}/l", *keys]
    log = tmp_path / "log"
    argv = ["nbdkit", "-f", "-U", f"{tmp_path}/nbd.sock", "python", str(PLUGIN), *keys]
    with running(argv, log) as process:
        assert process.wait(BOUND_S) != 0
    assert why in log.read_text()


def test_qemu_reads_back_what_it_wrote(target: Start) -> None:
    rig = target(flush=True)
    uri = f"nbd://127.0.0.1:{rig.ports['x']}/x"
    commands = ["-c", "write -P 5 8k 64k", "-c", "flush", "-c", "read -P 5 8k 64k", "-c", "read -P 0 0 8k"]
    subprocess.run(["qemu-io", "-f", "raw", *commands, uri], check=True, timeout=30, capture_output=True)
