"""The policy target's volatile write cache: what a power loss takes and leaves, and a flush that lies."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from nbd_client import NbdClient, data_of
from storage_rig import Rig, policy_target

from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.target.backing import FileBacking
from jepsen_blk.storage.target.cache import VolatileCache, lose_cache, medium_bytes, unflushed

SIZE = 1 << 20
BLOCK = 3
A, B, C = (data_of(BLOCK, sequence) for sequence in (1, 2, 3))
INITIAL = bytes(BLOCK_BYTES)

Start = Callable[..., Rig]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Start]:
    files = {"backing": tmp_path / "disk", "cache": tmp_path / "cache"}
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(policy_target(tmp_path, flush=True, **files, **options))


def lose_power(rig: Rig) -> tuple[NbdClient, int]:
    """Return a new client, and how many blocks were lost."""
    rig.kill()
    lost = lose_cache(rig.log.with_name("cache"), SIZE)
    rig.restart()
    return rig.client("x"), lost


def test_a_power_loss_takes_what_was_completed_and_not_flushed(target: Start) -> None:
    rig = target()
    x = rig.client("x")
    assert (x.write(BLOCK, A), x.flush(), x.write(BLOCK, B), x.write(BLOCK + 1, C)) == (0, 0, 0, 0)
    assert x.read(BLOCK) == B
    assert rig.ask("stats")["stats"]["cached"] == unflushed(rig.log.with_name("cache"), SIZE) == 2
    again, lost = lose_power(rig)
    assert lost == 2
    assert again.read(BLOCK, 2) == A + INITIAL
    assert [line["cached"] for line in rig.lines("start")] == [0, 0]


def test_a_flush_covers_what_another_connection_has_completed(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    assert (x.write(BLOCK, A), y.flush()) == (0, 0)
    again, lost = lose_power(rig)
    assert (lost, again.read(BLOCK)) == (0, A)


def test_a_flush_does_not_wait_for_a_write_in_flight_nor_cover_it(target: Start) -> None:
    rig = target()
    x, y = rig.client("x"), rig.client("y")
    hold, held = rig.hold(x, "x", BLOCK, A)
    assert y.flush() == 0
    rig.land(hold)
    assert x.reply(held) == 0
    again, lost = lose_power(rig)
    assert (lost, again.read(BLOCK)) == (1, INITIAL)


def test_a_write_that_is_to_be_durable_is_and_takes_no_other_along(target: Start) -> None:
    rig = target()
    x = rig.client("x")
    assert (x.write(BLOCK + 1, B), x.write_durably(BLOCK, A)) == (0, 0)
    again, lost = lose_power(rig)
    assert (lost, again.read(BLOCK, 2)) == (1, A + INITIAL)


def test_a_server_that_dies_alone_leaves_its_cache_to_the_next(target: Start) -> None:
    rig = target()
    assert rig.client("x").write(BLOCK, A) == 0
    rig.restart()
    again = rig.client("x")
    assert again.read(BLOCK) == A
    assert [line["cached"] for line in rig.lines("start")] == [0, 1]
    assert rig.ask("stats")["stats"]["cached_at_start"] == 1
    assert again.flush() == 0
    assert lose_power(rig)[0].read(BLOCK) == A


def test_a_target_that_ignores_flush_acknowledges_it_and_loses_the_data(target: Start) -> None:
    rig = target(ignore_flush=True)
    x = rig.client("x")
    assert (x.write(BLOCK, A), x.flush(), x.write_durably(BLOCK + 1, B)) == (0, 0, 0)
    again, lost = lose_power(rig)
    assert (lost, again.read(BLOCK, 2)) == (2, INITIAL * 2)


def test_a_part_of_a_block_is_cached_with_the_rest_of_it(tmp_path: Path) -> None:
    backing = FileBacking(tmp_path / "disk", SIZE)
    backing.write(memoryview(A), BLOCK * BLOCK_BYTES)
    cache = VolatileCache(backing, FileBacking(tmp_path / "cache", medium_bytes(SIZE)), SIZE)
    cache.write(memoryview(b"x" * 1024), BLOCK * BLOCK_BYTES - 512)
    found = bytearray(2 * BLOCK_BYTES)
    cache.read(memoryview(found), (BLOCK - 1) * BLOCK_BYTES)
    assert found == bytes(BLOCK_BYTES - 512) + b"x" * 1024 + A[512:]
    assert cache.cached == 2
    cache.flush()
    assert (tmp_path / "disk").read_bytes()[(BLOCK - 1) * BLOCK_BYTES :][: 2 * BLOCK_BYTES] == found


def test_without_a_cache_there_is_nothing_to_lose(tmp_path: Path) -> None:
    assert unflushed(tmp_path / "cache", SIZE) == lose_cache(tmp_path / "cache", SIZE) == 0
