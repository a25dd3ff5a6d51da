"""The whole link: the agent as a process, a carrier in QEMU's place, GuestLink at the other end."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from agent_rig import RUN, WAIT_S, WORKLOAD, Recorder, Rig, agent_rig

from jepsen_blk.history.journal import JournalWriter, read_journal
from jepsen_blk.history.record import ROW, F, Outcome


def whole(recorder: Recorder) -> np.ndarray:
    """Check that boot 0's stream has neither a gap nor a repetition; return its rows."""
    assert recorder.sequences() == list(range(1, len(recorder.sequences()) + 1))
    rows = recorder.table()
    writes = rows[rows["f"] == F.WRITE]
    assert sorted(writes["value"].tolist()) == list(range(1, len(writes) + 1))
    return rows


async def finish(rig: Rig) -> np.ndarray:
    """Quiesce, read everything, say bye; return the rows."""
    assert await rig.link.quiesce(WAIT_S)
    await rig.link.read_all(WAIT_S)
    await rig.link.bye(WAIT_S)
    assert await rig.agent_exit_code() == 0
    rows = whole(rig.recorder)
    assert rig.link.operations == len(rows)
    return rows


def cut_in_a_frame(data: bytes) -> bytes:
    """Let through half of what came, then drop the node's socket."""
    if len(data) < 1000:
        return data
    raise ConnectionError(data[: len(data) // 2])


class CorruptOnce:
    """Changes one byte of a large piece of the stream, once."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def __call__(self, data: bytes) -> bytes:
        if self.done.is_set() or len(data) < 1000:
            return data
        self.done.set()
        changed = bytearray(data)
        changed[len(data) // 2] ^= 1
        return bytes(changed)


def test_a_test_runs_from_hello_to_bye_and_every_operation_is_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(2000)
            rows = await finish(rig)
            assert rig.recorder.notes == [
                {"note": "boot", "boot": 0, "sequence": 1},
                {"note": "bye", "boot": 0, "sequence": len(rig.recorder.chunks)},
            ]
            assert (rows["outcome"] == Outcome.OK).all()
            assert rig.link.split_brain == []
            swept = rows[-WORKLOAD["blocks"] :]
            assert sorted(swept["block"].tolist()) == list(range(WORKLOAD["blocks"]))
            last = {row["block"]: row["value"] for row in rows if row["f"] == F.WRITE}
            assert all(row["value"] == last.get(row["block"], 0) for row in swept)

    asyncio.run(test())


def test_the_workload_goes_on_after_a_quiesce(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            assert await rig.link.quiesce(WAIT_S)
            assert (await rig.link.ping())["in_flight"] == 0
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            await finish(rig)

    asyncio.run(test())


def test_abandon_with_nothing_in_flight_reports_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            assert await rig.link.quiesce(WAIT_S)
            assert await rig.link.abandon() == 0

    asyncio.run(test())


def test_a_link_cut_in_a_frame_goes_on_at_another_node_without_gap_or_repetition(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            for node in ("y", "x", "y"):
                await rig.recorder.reached(500)
                rig.qemu.dropped.clear()
                rig.qemu.mangle = cut_in_a_frame
                await asyncio.wait_for(rig.qemu.dropped.wait(), WAIT_S)
                rig.qemu.mangle = bytes
                await rig.qemu.connect(rig.node(node))
                await rig.link.attach(node)
            await rig.recorder.reached(500)
            await finish(rig)
            assert rig.link.split_brain == []

    asyncio.run(test())


def test_a_socket_that_connects_only_after_the_attach_is_asked_for_what_is_missing(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            rig.qemu.mangle = cut_in_a_frame
            await asyncio.wait_for(rig.qemu.dropped.wait(), WAIT_S)
            rig.qemu.mangle = bytes
            await rig.link.attach("y")
            quiet = asyncio.create_task(rig.link.quiesce(WAIT_S))
            await rig.qemu.connect(rig.node("y"))
            assert await quiet
            await finish(rig)

    asyncio.run(test())


def test_a_corrupted_byte_is_mended_by_a_resend(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            corrupt = CorruptOnce()
            rig.qemu.mangle = corrupt
            await rig.link.run(WORKLOAD)
            await asyncio.wait_for(corrupt.done.wait(), WAIT_S)
            await rig.recorder.reached(2000)
            await finish(rig)

    asyncio.run(test())


def test_lost_frames_come_again_even_when_nothing_follows_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            swallowed = asyncio.Event()

            def swallow(data: bytes) -> bytes:
                swallowed.set()
                return b""

            rig.qemu.mangle = swallow
            await asyncio.wait_for(swallowed.wait(), WAIT_S)
            quiet = asyncio.create_task(rig.link.quiesce(WAIT_S))
            swallowed.clear()
            await asyncio.wait_for(swallowed.wait(), WAIT_S)
            rig.qemu.mangle = bytes
            assert await quiet
            await finish(rig)

    asyncio.run(test())


def test_rows_are_in_the_sink_before_an_observer_sees_them(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    log: list[str] = []

    def observe(boot: int, rows: np.ndarray) -> None:
        assert rows.dtype == ROW
        seen.append((boot, len(rows)))
        log.append("observer")

    async def test() -> None:
        async with agent_rig(tmp_path, [observe]) as rig:
            rig.recorder.log = log
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            await finish(rig)
            assert log == ["sink", "observer"] * len(rig.recorder.chunks)
            assert seen == [(0, len(payload) // ROW.itemsize) for _, _, payload in rig.recorder.chunks]

    asyncio.run(test())


def test_an_observer_that_fails_fails_the_next_command(tmp_path: Path) -> None:
    class Full(Exception):
        pass

    def observe(boot: int, rows: np.ndarray) -> None:
        raise Full

    async def test() -> None:
        async with agent_rig(tmp_path, [observe]) as rig:
            await rig.link.run(WORKLOAD)
            with pytest.raises(Full):
                await rig.link.quiesce(WAIT_S)

    asyncio.run(test())


def test_a_second_boot_numbers_its_rows_from_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            await rig.link.reset(boot=1, run=RUN, seed=8)
            await rig.link.run(WORKLOAD)
            await rig.recorder.reached(500)
            await rig.link.quiesce(WAIT_S)
            await rig.link.bye(WAIT_S)
            assert rig.recorder.sequences(1) == list(range(1, len(rig.recorder.sequences(1)) + 1))
            assert [note["boot"] for note in rig.recorder.notes if note["note"] == "boot"] == [0, 1]
            assert [note["boot"] for note in rig.recorder.notes if note["note"] == "bye"] == [1]

    asyncio.run(test())


def test_the_journal_on_disk_holds_the_stream(tmp_path: Path) -> None:
    async def test() -> int:
        async with agent_rig(tmp_path) as rig:
            rig.link._journal = journal = JournalWriter(tmp_path / "history.blk")
            journal.note({"note": "boot", "boot": 0})
            await rig.link.run(WORKLOAD)
            while rig.link.operations < 500:
                await rig.link.ping()
            await rig.link.quiesce(WAIT_S)
            await rig.link.bye(WAIT_S)
            journal.close()
            return rig.link.operations

    operations = asyncio.run(test())
    journal = read_journal(tmp_path / "history.blk")
    assert len(journal.history) == operations
    assert journal.history.lost_tails == frozenset()
    assert journal.torn_bytes == 0
