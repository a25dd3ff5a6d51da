"""Linux AIO by system calls, on a real file opened with O_DIRECT."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_rig import direct_disk

from jepsen_blk.stamp import BLOCK_BYTES
from workloads.agent.aio import Aio

SLOTS = 8


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return direct_disk(tmp_path, SLOTS)


@pytest.fixture
def aio(disk: Path) -> Iterator[Aio]:
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    context = Aio(fd, SLOTS)
    yield context
    context.close()
    os.close(fd)


def reap_all(aio: Aio, count: int) -> dict[int, int]:
    done: dict[int, int] = {}
    for _ in range(10_000):
        done.update(aio.reap())
        if len(done) == count:
            return done
    raise AssertionError(f"{len(done)} of {count} requests completed")


def test_a_batch_of_writes_is_read_back_from_other_slots(aio: Aio, disk: Path) -> None:
    for slot in range(SLOTS):
        aio.buffers[slot * BLOCK_BYTES : (slot + 1) * BLOCK_BYTES] = bytes([slot + 1]) * BLOCK_BYTES
        aio.queue(slot, 1, slot)
    aio.submit()
    assert reap_all(aio, SLOTS) == dict.fromkeys(range(SLOTS), BLOCK_BYTES)
    assert disk.read_bytes() == b"".join(bytes([slot + 1]) * BLOCK_BYTES for slot in range(SLOTS))

    for slot in range(SLOTS):
        aio.queue(slot, 0, SLOTS - 1 - slot)
    aio.submit()
    reap_all(aio, SLOTS)
    assert [aio.buffers[slot * BLOCK_BYTES] for slot in range(SLOTS)] == list(range(SLOTS, 0, -1))


def test_reap_with_nothing_in_flight_returns_nothing(aio: Aio) -> None:
    assert list(aio.reap()) == []


def test_no_more_than_the_limit_is_reaped_at_a_time_and_the_rest_later(aio: Aio) -> None:
    aio.limit(3)
    for slot in range(SLOTS):
        aio.queue(slot, 0, slot)
    aio.submit()
    reaped: list[int] = []
    for _ in range(10_000):
        done = aio.reap()
        assert len(done) <= 3
        reaped += [slot for slot, _ in done]
        if len(reaped) == SLOTS:
            break
    assert sorted(reaped) == list(range(SLOTS))


def test_a_read_beyond_the_end_reports_fewer_bytes(aio: Aio) -> None:
    aio.queue(0, 0, SLOTS)
    aio.submit()
    assert reap_all(aio, 1) == {0: 0}


def test_a_request_that_the_kernel_refuses_is_reported_and_the_rest_of_the_batch_goes_on(disk: Path) -> None:
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    aio = Aio(fd, SLOTS)
    for slot, write in enumerate((0, 1, 0, 1, 0)):
        aio.queue(slot, write, slot)
    aio.submit()
    done = reap_all(aio, 5)
    aio.close()
    os.close(fd)
    refused = -errno.EBADF
    assert done == {0: BLOCK_BYTES, 1: refused, 2: BLOCK_BYTES, 3: refused, 4: BLOCK_BYTES}


def test_queueing_again_after_a_refusal_starts_from_an_empty_queue(disk: Path) -> None:
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    aio = Aio(fd, SLOTS)
    aio.queue(0, 1, 0)
    aio.submit()
    reap_all(aio, 1)
    aio.queue(1, 0, 1)
    aio.submit()
    assert reap_all(aio, 1) == {1: BLOCK_BYTES}
    aio.close()
    os.close(fd)
