"""The target's misbehaviours in a real nbdkit: late answers and errors, as an NBD client sees them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from nbd_client import EIO, data_of
from storage_rig import BOUND_S, Rig, policy_target, until

from jepsen_blk.stamp import BLOCK_BYTES

A, B = (data_of(3, sequence) for sequence in (1, 2))
INITIAL = bytes(BLOCK_BYTES)
LONG_MS = 60_000


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with policy_target(tmp_path_factory.mktemp("target"), flush=True) as rig:
        yield rig


@pytest.fixture(autouse=True)
def well_behaved(rig: Rig) -> Iterator[None]:
    """Begin with an empty block and end every misbehaviour of a test."""
    assert rig.client("x").write(3, INITIAL) == 0
    yield
    for line in rig.lines("misbehave"):
        rig.ask("behave", misbehaviour=line["misbehaviour"])


def misbehave(rig: Rig, *requests: str, **how: Any) -> int:
    what = {"nodes": ["x"], "error": "", "applied": False, "delay_ms": 0, "limit": 0, **how}
    number: int = rig.ask("misbehave", requests=requests, **what)["misbehaviour"]
    return number


def seen(rig: Rig, number: int, count: int = 1, timeout_s: float = BOUND_S) -> dict[str, Any]:
    reply: dict[str, Any] = rig.ask("wait_misbehaved", misbehaviour=number, count=count, timeout_s=timeout_s)
    return reply


@pytest.mark.parametrize("applied", [False, True])
def test_a_write_is_answered_with_an_error_and_applied_or_not(rig: Rig, applied: bool) -> None:
    x, y = rig.client("x"), rig.client("y")
    number = misbehave(rig, "write", error="EIO", applied=applied)
    assert x.write(3, A) == EIO
    assert y.read(3) == (A if applied else INITIAL)
    assert seen(rig, number)["requests"] == 1
    rig.ask("behave", misbehaviour=number)
    assert x.write(3, B) == 0
    line = until(lambda: [line for line in rig.lines("write") if line["outcome"] == "error"])[-1]
    assert (line["action"], line["applied"] is not None) == ("apply", applied)
    assert "the storage misbehaves: Input/output error" in line["why"]


def test_only_the_requests_and_nodes_that_are_named_misbehave(rig: Rig) -> None:
    x, y = rig.client("x"), rig.client("y")
    number = misbehave(rig, "read", error="EIO")
    assert x.write(3, A) == 0
    assert x.flush() == 0
    assert x.try_read(3) == EIO
    assert y.read(3) == A
    assert seen(rig, number, count=0)["requests"] == 1


def test_a_limit_is_that_of_the_next_requests(rig: Rig) -> None:
    x = rig.client("x")
    number = misbehave(rig, "write", "read", error="ENOSPC", limit=2)
    assert (x.write(3, A), x.try_read(3), x.write(3, B)) == (errno.ENOSPC, errno.ENOSPC, 0)
    assert seen(rig, number, count=2)["requests"] == 2
    assert x.read(3) == B


def test_a_delay_is_measured_from_arrival_to_answer(rig: Rig) -> None:
    x = rig.client("x")
    number = misbehave(rig, "write", "read", delay_ms=30)
    assert (x.write(3, A), x.read(3)) == (0, A)
    times = seen(rig, number, count=2)
    assert times["requests"] == 2
    assert 30 <= times["shortest_ms"] <= times["longest_ms"]


def test_the_end_of_a_delay_lets_what_waits_go_on_as_if_nothing_had_been(rig: Rig) -> None:
    x = rig.client("x")
    number = misbehave(rig, "write", error="EIO", delay_ms=LONG_MS)
    cookie = x.send_write(3, A)
    until(lambda: rig.in_flight("x"))
    assert not x.answered(cookie)
    rig.ask("behave", misbehaviour=number)
    assert x.reply(cookie) == 0
    after = seen(rig, number, count=0)
    assert (after["requests"], after["over"]) == (0, True)


def test_a_fence_aborts_a_write_that_is_delayed(rig: Rig) -> None:
    x = rig.client("x")
    misbehave(rig, "write", delay_ms=LONG_MS)
    cookie = x.send_write(3, A)
    until(lambda: rig.in_flight("x"))
    rig.ask("fence", node="x", abort=True)
    assert x.reply(cookie) == EIO
    rig.ask("unfence", node="x")
    assert rig.client("y").read(3) == INITIAL


def test_a_flush_and_a_write_that_is_to_be_durable_are_slow_to_flush(rig: Rig) -> None:
    x = rig.client("x")
    number = misbehave(rig, "flush", delay_ms=20)
    assert (x.write(3, A), x.read(3)) == (0, A)
    assert seen(rig, number, count=0)["requests"] == 0
    assert (x.flush(), x.write_durably(3, B)) == (0, 0)
    assert seen(rig, number, count=2)["shortest_ms"] >= 20


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"error": "EPIPE"}, "misbehave: error must be empty or one of EIO, ENOSPC, not 'EPIPE'"),
        ({"delay_ms": -1}, "misbehave: delay_ms must be milliseconds, not -1"),
        ({"nodes": "x"}, "misbehave: nodes must be names, not 'x'"),
        ({"requests": ["trim"]}, "misbehave: requests must be some of read, write, flush, not ['trim']"),
    ],
)
def test_a_misbehaviour_that_makes_no_sense_is_refused(rig: Rig, how: dict[str, Any], why: str) -> None:
    what = {"nodes": ["x"], "requests": ["write"], "error": "", "applied": False, "delay_ms": 0, "limit": 0}
    assert rig.refusal("misbehave", **{**what, **how}) == why
