"""The engine on a real file: what it issues, what it records, and what it makes of what it reads."""

from _random import Random
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest
from agent_rig import RUN, WORKLOAD, FaultyAio, direct_disk

from jepsen_blk.history.record import FOREIGN, INITIAL, PENDING, PHANTOM, ROW, TORN, F, Outcome
from jepsen_blk.stamp import BLOCK_BYTES, SEQUENCE_BITS, STAMP_BYTES, Stamp, decode_one, encode
from workloads.agent.engine import MOST_SLOTS, Engine
from workloads.agent.frames import FrameReader
from workloads.agent.link import Outbox
from workloads.agent.register import Register

BOOT = 3
BLOCKS = WORKLOAD["blocks"]


class Bench:
    """An engine with its outbox, run by hand."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.outbox = Outbox()
        self.engine = Engine(FaultyAio.open(str(disk), MOST_SLOTS), monotonic_ns, self.outbox, RUN, BOOT)
        self._reader = FrameReader()
        self._rows = b""

    @property
    def aio(self) -> FaultyAio:
        aio = self.engine._disk
        assert isinstance(aio, FaultyAio)
        return aio

    def start(self, seed: int = 1, **changes: Any) -> None:
        workload = {**WORKLOAD, **changes}
        register = Register(Random(seed), workload)
        self.engine.start(register, workload["queue_depth"], workload["overlapping_writes"])

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100_000):
            if condition():
                return
            self.engine.pump(0)
        raise AssertionError("the engine did not get there")

    def drain(self) -> None:
        self.engine.stop()
        self.until(lambda: self.engine.in_flight == 0)

    def exercise(self, count: int, **changes: Any) -> np.ndarray:
        self.start(**changes)
        self.until(lambda: self.engine.completed >= count)
        self.drain()
        return self.rows()

    def sweep(self) -> dict[int, int]:
        """Read every block; return the value seen in each."""
        before = len(self.rows())
        self.engine.sweep(8)
        self.until(lambda: self.engine.swept)
        self.engine.stop()
        rows = self.rows()[before:]
        assert (rows["f"] == F.READ).all()
        assert len(rows) == len(set(rows["block"].tolist())) == BLOCKS
        return dict(zip(rows["block"].tolist(), rows["value"].tolist(), strict=True))

    def rows(self) -> np.ndarray:
        """Return every row so far, in order of completion."""
        self.engine.flush()
        while chunk := self.outbox.next_chunk(0):
            self._rows += b"".join(payload for _, _, payload in self._reader.feed(chunk))
        return np.frombuffer(self._rows, dtype=ROW)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(direct_disk(tmp_path, BLOCKS))
    yield bench
    bench.engine.close()


def concurrent_writes_to_one_block(rows: np.ndarray) -> int:
    writes = np.sort(rows[rows["f"] == F.WRITE], order=["block", "start"])
    first, second = writes[:-1], writes[1:]
    return int(((first["block"] == second["block"]) & (second["start"] <= first["finish"])).sum())


def put(disk: Path, block: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(block * BLOCK_BYTES)
        file.write(data)


def test_every_write_is_recorded_once_with_a_value_of_its_own(bench: Bench) -> None:
    rows = bench.exercise(3000)
    writes = rows[rows["f"] == F.WRITE]
    assert (rows["outcome"] == Outcome.OK).all()
    assert (rows["start"] < rows["finish"]).all()
    assert sorted(writes["value"] - (BOOT << SEQUENCE_BITS)) == list(range(1, len(writes) + 1))
    assert set(rows["process"]) <= set(range(3 * WORKLOAD["queue_depth"]))


def test_a_block_holds_the_stamp_of_its_last_write(bench: Bench) -> None:
    rows = bench.exercise(2000)
    disk = bench.disk.read_bytes()
    last = {row["block"]: row for row in rows if row["f"] == F.WRITE}
    for block, row in last.items():
        data = disk[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
        sequence = int(row["value"]) - (BOOT << SEQUENCE_BITS)
        assert data == encode(Stamp(RUN, int(block), BOOT, int(row["process"]), sequence))
        assert data == data[:STAMP_BYTES] * (len(data) // STAMP_BYTES)
        assert decode_one(data) is not None


def test_never_two_writes_to_one_block_are_in_flight(bench: Bench) -> None:
    rows = bench.exercise(4000, hot_blocks=2, hot_fraction=1.0, read_fraction=0.0)
    assert concurrent_writes_to_one_block(rows) == 0


def test_overlapping_writes_overlap_when_they_are_asked_for(bench: Bench) -> None:
    rows = bench.exercise(4000, hot_blocks=2, hot_fraction=1.0, read_fraction=0.0, overlapping_writes=True)
    assert concurrent_writes_to_one_block(rows) > 0


def test_a_burst_writes_its_block_again_and_then_reads_it(bench: Bench) -> None:
    rows = bench.exercise(300, queue_depth=1, read_fraction=0.0, burst_fraction=1.0, hot_fraction=1.0)
    begun: dict[int, list[int]] = {}
    read = 0
    for f, block, value in zip(
        rows["f"].tolist(), rows["block"].tolist(), rows["value"].tolist(), strict=True
    ):
        burst = begun.setdefault(block, [])
        if f == F.WRITE:
            assert len(burst) < 2
            burst.append(value)
        elif len(burst) == 2:
            assert value == begun.pop(block)[1]
            read += 1
    assert read > 50


def test_flushes_are_recorded_as_operations_of_no_block(bench: Bench) -> None:
    rows = bench.exercise(2000, flush_fraction=0.25)
    flushes = rows[rows["f"] == F.FLUSH]
    assert len(flushes) == pytest.approx(0.25 * len(rows), rel=0.2)
    assert (flushes["outcome"] == Outcome.OK).all()
    assert not flushes["block"].any()
    assert not flushes["value"].any()
    assert (flushes["start"] <= flushes["finish"]).all()
    assert bench.engine.indeterminate == 0
    writes = rows[rows["f"] == F.WRITE]
    assert (np.sort(writes["value"]) - (BOOT << SEQUENCE_BITS)).tolist() == list(range(1, len(writes) + 1))


def test_a_flush_that_fails_or_never_completes_is_indeterminate(bench: Bench) -> None:
    bench.aio.lost_flushes = True
    bench.start(flush_fraction=0.5)
    bench.until(lambda: len(bench.aio.withheld) == WORKLOAD["queue_depth"])
    assert bench.engine.abandon() == WORKLOAD["queue_depth"]
    abandoned = bench.rows()[-WORKLOAD["queue_depth"] :]
    assert (abandoned["f"] == F.FLUSH).all()
    assert (abandoned["outcome"] == Outcome.INFO).all()
    assert (abandoned["finish"] == PENDING).all()
    bench.aio.lost_flushes = False
    bench.aio.failing_flushes = True
    bench.until(lambda: bench.engine.in_flight == 0)
    before = len(bench.rows())
    rows = bench.exercise(before + 500, flush_fraction=0.25)[before:]
    flushes = rows["f"] == F.FLUSH
    assert flushes.any()
    assert (rows["outcome"] == np.where(flushes, Outcome.INFO, Outcome.OK)).all()


def test_writes_are_issued_in_the_order_of_their_sequence_numbers(bench: Bench) -> None:
    # What a dead guest never reported is dated by this order.
    rows = bench.exercise(2000)
    writes = rows[rows["f"] == F.WRITE]
    by_value = writes[np.argsort(writes["value"])]
    assert (np.diff(by_value["start"]) >= 0).all()


def test_what_the_kernel_has_no_room_for_is_issued_later_in_order_and_once(bench: Bench) -> None:
    bench.start()
    for room in (0, 3, 1, 0, 2, 5):
        bench.aio.room = room
        for _ in range(20):
            bench.engine.pump(0)
    bench.aio.room = None
    bench.until(lambda: bench.engine.completed > 1000)
    bench.drain()
    writes = bench.rows()[bench.rows()["f"] == F.WRITE]
    by_value = writes[np.argsort(writes["value"])]
    assert (by_value["value"] - (BOOT << SEQUENCE_BITS)).tolist() == list(range(1, len(writes) + 1))
    assert (np.diff(by_value["start"]) >= 0).all()
    assert (writes["outcome"] == Outcome.OK).all()


def test_one_seed_gives_one_sequence_of_operations(tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[tuple[int, int, int]]:
        (tmp_path / name).mkdir()
        bench = Bench(direct_disk(tmp_path / name, BLOCKS))
        rows = bench.exercise(500, seed=seed, queue_depth=1)
        bench.engine.close()
        return [(int(row["f"]), int(row["block"]), int(row["value"])) for row in rows[:500]]

    first = run("a", 11)
    assert run("b", 11) == first
    assert run("c", 12) != first


def test_blocks_never_written_read_as_the_initial_value(bench: Bench) -> None:
    bench.start()
    bench.drain()
    written = set(bench.rows()[bench.rows()["f"] == F.WRITE]["block"].tolist())
    assert {block for block, value in bench.sweep().items() if value == INITIAL} == set(
        range(BLOCKS)
    ) - written


def test_a_sweep_reads_and_never_goes_on_with_a_burst(bench: Bench) -> None:
    bench.aio.silent = [0]
    bench.start(read_fraction=0.0, burst_fraction=1.0, hot_fraction=1.0)
    bench.until(lambda: len(bench.aio.withheld) == 1)
    bench.engine.stop()
    bench.until(lambda: bench.engine.in_flight == 1)
    before = len(bench.rows())
    bench.engine.sweep(8)
    bench.aio.silent = ()
    bench.until(lambda: bench.engine.swept)
    bench.drain()
    writes = [row for row in bench.rows()[before:] if row["f"] == F.WRITE]
    assert [row["block"] for row in writes] == [0]


def test_a_read_tells_torn_foreign_misdirected_and_phantom_blocks_apart(bench: Bench) -> None:
    bench.start(read_fraction=1.0)
    bench.drain()
    ours = [Stamp(RUN, block, BOOT, 0, 900 + block) for block in range(16)]
    broken = bytearray(encode(ours[0]))
    broken[17::64] = b"\xff" * 64
    put(bench.disk, 1, encode(ours[1]))
    put(bench.disk, 2, encode(ours[2])[:512] + encode(ours[3])[512:])
    put(bench.disk, 4, encode(ours[4])[:2048] + bytes(2048))
    put(bench.disk, 5, encode(Stamp(RUN + 1, 5, BOOT, 0, 1)))
    put(bench.disk, 6, encode(ours[7]))
    put(bench.disk, 8, b"garbage!" * 512)
    put(bench.disk, 9, bytes(4095) + b"x")
    put(bench.disk, 10, bytes(broken))
    put(bench.disk, 11, encode(Stamp(RUN, 11, BOOT - 1, 5, 44)))
    seen = bench.sweep()
    assert {block: seen[block] for block in range(12)} == {
        0: INITIAL,
        1: ours[1].value,
        2: TORN,
        3: INITIAL,
        4: TORN,
        5: FOREIGN,
        6: ours[7].value,
        7: INITIAL,
        8: PHANTOM,
        9: PHANTOM,
        10: PHANTOM,
        11: (BOOT - 1) << SEQUENCE_BITS | 44,
    }


def test_a_failed_write_is_indeterminate_and_the_block_goes_on(bench: Bench) -> None:
    bench.aio.failing = [0]
    rows = bench.exercise(2000)
    failed = rows[(rows["block"] == 0) & (rows["f"] == F.WRITE)]
    assert len(failed) > 1
    assert (failed["outcome"] == Outcome.INFO).all()
    assert (failed["finish"] < PENDING).all()
    assert (rows[rows["block"] != 0]["outcome"] == Outcome.OK).all()
    assert bench.engine.indeterminate == len(failed)


def test_a_failed_read_is_indeterminate_without_a_value(bench: Bench) -> None:
    with bench.disk.open("r+b") as file:
        file.truncate((BLOCKS - 1) * BLOCK_BYTES)
    rows = bench.exercise(500, read_fraction=1.0, hot_blocks=0)
    beyond = rows[rows["block"] == BLOCKS - 1]
    assert len(beyond)
    assert (beyond["outcome"] == Outcome.INFO).all()
    assert (beyond["value"] == INITIAL).all()


def test_a_silent_write_keeps_its_slot_while_the_others_go_on(bench: Bench) -> None:
    bench.aio.silent = [0]
    bench.start()
    bench.until(lambda: len(bench.aio.withheld) == 1)
    before = bench.engine.completed
    bench.until(lambda: bench.engine.completed > before + 1000)
    assert len(bench.aio.withheld) == 1
    bench.engine.stop()
    bench.until(lambda: bench.engine.in_flight == 1)
    assert bench.engine.busy


def test_abandon_reports_what_is_in_flight_as_pending_and_never_twice(bench: Bench) -> None:
    bench.aio.silent = [0, 1]
    bench.start()
    bench.until(lambda: len(bench.aio.withheld) == 2)
    bench.engine.stop()
    bench.until(lambda: bench.engine.in_flight == 2)
    assert bench.engine.abandon() == 2
    assert bench.engine.abandon() == 0
    rows = bench.rows()
    pending = rows[rows["finish"] == PENDING]
    assert sorted(pending["block"].tolist()) == [0, 1]
    assert (pending["outcome"] == Outcome.INFO).all()
    assert (pending["value"] > 0).all()

    bench.aio.silent = ()
    bench.until(lambda: bench.engine.in_flight == 0)
    assert len(bench.rows()) == len(rows)
    assert len(bench.exercise(100)) > len(rows)


def test_a_workload_of_another_shape_is_refused_while_something_is_in_flight(bench: Bench) -> None:
    bench.aio.silent = [0]
    bench.start()
    bench.until(lambda: len(bench.aio.withheld) == 1)
    with pytest.raises(ValueError, match="in flight"):
        bench.start(overlapping_writes=True)


def test_a_throttled_engine_issues_nothing_until_it_may_again(bench: Bench) -> None:
    bench.start(burst_fraction=0.0)
    bench.until(lambda: bench.engine.completed > 100)
    bench.engine.throttled = True
    bench.until(lambda: bench.engine.in_flight == 0)
    assert not bench.engine.busy
    stopped_at = bench.engine.completed
    bench.engine.pump(0)
    assert bench.engine.completed == stopped_at
    bench.engine.throttled = False
    bench.until(lambda: bench.engine.completed > stopped_at + 100)
