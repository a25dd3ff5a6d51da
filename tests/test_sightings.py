"""What a storage sees of a node's writes in flight, however soon they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nbd_client import data_of
from storage_rig import BOUND_S, Rig, can_connect, free_port, policy_target, running, until

from jepsen_blk.storage.control import StorageControl
from jepsen_blk.storage.servers import Listen, nbdkit_memory_argv, proxy_argv
from jepsen_blk.storage.sightings import Sighting, Sightings


@dataclass(frozen=True)
class Write:
    blocks: Sequence[int]

    def describe(self) -> dict[str, Any]:
        return {"block": self.blocks[0]}


def sighting(*blocks: int, count: int = 1) -> Sighting:
    return Sighting("x", frozenset(blocks), count)


@pytest.mark.parametrize(
    ("wanted", "flights", "seen"),
    [
        (sighting(), [], None),
        (sighting(), [[3]], [3]),
        (sighting(4), [[3]], None),
        (sighting(4), [[3], [3, 4]], [3]),
        (sighting(3, 4, count=2), [[3], [9]], None),
        (sighting(3, 4, count=2), [[3], [9], [4]], [3, 4]),
    ],
)
def test_writes_to_one_of_the_blocks_are_counted(
    wanted: Sighting, flights: list[list[int]], seen: list[int] | None
) -> None:
    wanted.look([Write(blocks) for blocks in flights])
    assert (wanted.seen and [write["block"] for write in wanted.seen]) == seen


def test_who_waits_is_told_of_its_own_node_once() -> None:
    sightings, wanted = Sightings(), sighting(count=1)
    sightings.look_out(wanted, [])
    assert not sightings.arrived("y", lambda: [Write([1])])
    assert wanted.seen is None
    assert sightings.arrived("x", lambda: [Write([1])])
    assert not sightings.arrived("x", lambda: [Write([2])])
    assert wanted.seen == [{"block": 1}]
    sightings.end(wanted)


def test_what_nobody_waits_for_any_more_is_not_looked_for() -> None:
    sightings, wanted = Sightings(), sighting()
    sightings.look_out(wanted, [])
    sightings.end(wanted)
    assert not sightings.arrived("x", lambda: [Write([1])])
    assert wanted.seen is None


@contextmanager
def proxied(directory: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        port = free_port()
        server = nbdkit_memory_argv(Listen("127.0.0.1", port), 1 << 20)
        stack.enter_context(running(server, directory / "server.log"))
        until(lambda: can_connect(port))
        rig = Rig(stack, directory, {"x": free_port(), "y": free_port()})
        listens = {node: Listen("127.0.0.1", at) for node, at in rig.ports.items()}
        rig.start(
            proxy_argv(listens, Listen("127.0.0.1", port), rig.control, rig.log), directory / "proxy.log"
        )
        yield rig


@pytest.fixture(params=[policy_target, proxied], ids=["policy", "stock"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    with request.param(tmp_path) as rig:
        yield rig


def test_a_write_that_is_over_at_once_is_seen_in_flight(rig: Rig) -> None:
    x, seen = rig.client("x"), []
    waits = threading.Thread(
        target=lambda: seen.extend(
            rig.ask("wait_in_flight", node="x", blocks=[5, 6], count=1, timeout_s=BOUND_S)["writes"]
        )
    )
    waits.start()
    number = 0
    while waits.is_alive():  # it may not wait yet when the first ones come
        number += 1
        assert x.write(7, data_of(7, number)) == 0
        assert x.write(6, data_of(6, number)) == 0
    assert [(write["node"], write["block"]) for write in seen] == [("x", 6)]


def test_what_is_in_flight_already_is_seen_at_once_and_too_few_are_not(rig: Rig) -> None:
    x = rig.client("x")
    hold, cookie = rig.hold(x, "x", 3, data_of(3, 1))
    (write,) = rig.ask("wait_in_flight", node="x", blocks=[], count=1, timeout_s=BOUND_S)["writes"]
    assert (write["block"], write["held"]) == (3, True)
    for missing in ({"node": "y"}, {"blocks": [4]}, {"count": 2}):
        asked = {"node": "x", "blocks": [3], "count": 1, "timeout_s": 0} | missing
        assert rig.refusal("wait_in_flight", **asked) == "timeout"
    rig.land(hold)
    assert x.reply(cookie) == 0


def test_the_seam_returns_the_writes_that_were_seen(tmp_path: Path) -> None:
    with policy_target(tmp_path) as rig:
        x = rig.client("x")
        hold, _ = rig.hold(x, "x", 3, data_of(3, 1))
        (write,) = asyncio.run(StorageControl(rig.control).wait_in_flight("x", (3,), 1, BOUND_S))
        assert (write.node, write.block, write.value, write.held) == ("x", 3, 1, True)
        rig.land(hold)
