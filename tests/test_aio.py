"""Linux AIO by system calls, on a real file opened with O_DIRECT."""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import direct_disk

from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent import aio as aio_module
from workloads.agent.aio import Aio
from workloads.agent.operations import REQUESTS

SLOTS = 8


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return direct_disk(tmp_path, SLOTS)


@pytest.fixture
def aio(disk: Path) -> Iterator[Aio]:
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    context = Aio(fd, SLOTS)
    yield context
    context.close(0)


def put(aio: Aio, *requests: tuple[int, int, int]) -> None:
    """Submit (slot, 1 to write or 0 to read, block) each."""
    for place, (slot, write, block) in enumerate(requests):
        request = REQUESTS * slot + write
        aio.offsets[request] = block * BLOCK_BYTES
        aio.queue[place] = aio.pointers[request]
    assert aio.submit(len(requests)) == 0


def reap_all(aio: Aio, count: int) -> dict[int, int]:
    """Return what became of `count` requests, by slot."""
    done: dict[int, int] = {}
    for _ in range(10_000):
        done.update((request // REQUESTS, result) for request, result in aio.reap())
        if len(done) == count:
            return done
    raise AssertionError(f"{len(done)} of {count} requests completed")


def test_a_batch_of_writes_is_read_back_from_other_slots(aio: Aio, disk: Path) -> None:
    for slot in range(SLOTS):
        aio.buffers[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES] = bytes([slot + 1]) * BLOCK_BYTES
    put(aio, *((slot, 1, slot) for slot in range(SLOTS)))
    assert reap_all(aio, SLOTS) == dict.fromkeys(range(SLOTS), BLOCK_BYTES)
    assert disk.read_bytes() == b"".join(bytes([slot + 1]) * BLOCK_BYTES for slot in range(SLOTS))

    put(aio, *((slot, 0, SLOTS - 1 - slot) for slot in range(SLOTS)))
    reap_all(aio, SLOTS)
    assert [aio.buffers[slot * BLOCK_BYTES] for slot in range(SLOTS)] == list(range(SLOTS, 0, -1))


def test_a_flush_completes_with_nothing_beside_the_reads_and_writes_of_its_slot(aio: Aio) -> None:
    requests = [0, 1, 2, REQUESTS + 2]
    for place, request in enumerate(requests):
        aio.queue[place] = aio.pointers[request]
    assert aio.submit(len(requests)) == 0
    done: dict[int, int] = {}
    for _ in range(10_000):
        done.update(aio.reap())
        if len(done) == len(requests):
            break
    assert done == {0: BLOCK_BYTES, 1: BLOCK_BYTES, 2: 0, REQUESTS + 2: 0}


def test_reap_with_nothing_in_flight_returns_nothing(aio: Aio) -> None:
    assert aio.reap() == []


def test_no_more_than_the_limit_is_reaped_at_a_time_and_the_rest_later(aio: Aio) -> None:
    aio.limit(3)
    put(aio, *((slot, 0, slot) for slot in range(SLOTS)))
    reaped: list[int] = []
    for _ in range(10_000):
        done = aio.reap()
        assert len(done) <= 3
        reaped += [request // REQUESTS for request, _ in done]
        if len(reaped) == SLOTS:
            break
    assert sorted(reaped) == list(range(SLOTS))


def test_the_ring_tells_whether_there_is_something_to_reap(aio: Aio) -> None:
    assert aio.ring[0] == aio.ring[1]
    put(aio, (0, 0, 0), (1, 0, 1))
    for _ in range(100_000):
        if (aio.ring[1] - aio.ring[0]) % SLOTS == 2:
            break
    assert len(aio.reap()) == 2
    assert aio.ring[0] == aio.ring[1]


def test_a_read_beyond_the_end_reports_fewer_bytes(aio: Aio) -> None:
    put(aio, (0, 0, SLOTS))
    assert reap_all(aio, 1) == {0: 0}


@pytest.fixture
def read_only(disk: Path) -> Iterator[Aio]:
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    context = Aio(fd, SLOTS)
    yield context
    context.close(0)


def test_a_request_that_the_kernel_refuses_is_reported_and_the_rest_of_the_batch_goes_on(
    read_only: Aio,
) -> None:
    put(read_only, *((slot, write, slot) for slot, write in enumerate((0, 1, 0, 1, 0))))
    refused = -errno.EBADF
    assert reap_all(read_only, 5) == {
        0: BLOCK_BYTES,
        1: refused,
        2: BLOCK_BYTES,
        3: refused,
        4: BLOCK_BYTES,
    }


def test_submitting_again_after_a_refusal_starts_from_an_empty_queue(read_only: Aio) -> None:
    put(read_only, (0, 1, 0))
    reap_all(read_only, 1)
    put(read_only, (1, 0, 1))
    assert reap_all(read_only, 1) == {1: BLOCK_BYTES}


@pytest.mark.parametrize("busy", [errno.EAGAIN, errno.EINTR])
def test_what_the_kernel_has_no_room_for_stays_first_in_the_queue(
    aio: Aio, busy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([3, -1])  # three are taken, then there is no room

    def full(*_: object) -> int:
        ctypes.set_errno(busy)
        return next(calls)

    with monkeypatch.context() as patch:
        patch.setattr(aio_module, "_call", full)
        patch.setattr(aio_module, "_call_errno", full)
        for slot in range(5):
            aio.offsets[REQUESTS * slot] = slot * BLOCK_BYTES
            aio.queue[slot] = aio.pointers[REQUESTS * slot]
        assert aio.submit(5) == 2
    assert aio.submit(2) == 0
    assert reap_all(aio, 2) == {3: BLOCK_BYTES, 4: BLOCK_BYTES}
