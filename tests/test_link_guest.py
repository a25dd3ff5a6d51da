"""The whole link: the agent as a process, a carrier in QEMU's place, GuestLink at the other end."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_rig import RUN, WAIT_S, WORKLOAD, Recorder, Rig, agent_rig

from jepsen_blk.errors import LabError
from jepsen_blk.history.journal import JournalWriter, read_journal
from jepsen_blk.history.record import ROW, F, Outcome
from workloads import guest as guest_module
from workloads.agent.frames import JSON, ROWS, pack_frame
from workloads.guest import GuestLink


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


class Puppet:
    """A guest without an agent: answers every command at once and sends what the test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None]
        self.acked: dict[str, Any] = {}
        self.acks = asyncio.Event()
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda command: {}

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        self._task = asyncio.create_task(self._serve())

    def send(self, sequence: int, marker: int) -> None:
        row = np.zeros(1, dtype=ROW)
        row["f"], row["value"] = F.WRITE, marker
        self._writer.write(pack_frame(ROWS, sequence, row.tobytes()))

    def close(self) -> None:
        self._task.cancel()
        self._writer.transport.abort()

    async def _serve(self) -> None:
        while line := await self._reader.readline():
            if not line.strip():
                continue
            command = json.loads(line)
            if command["do"] == "ack":
                self.acked = command
                self.acks.set()
                continue
            reply = {"re": command["id"], "sequence": 0, **self.answer(command)}
            self._writer.write(pack_frame(JSON, 0, json.dumps(reply).encode()))


async def puppets(folder: Path) -> tuple[GuestLink, Recorder, Puppet, Puppet]:
    recorder = Recorder()
    link = GuestLink(recorder)
    pair = []
    for name in ("x", "y"):
        await link.listen(name, folder / name)
        puppet = Puppet(folder / name)
        await puppet.connect()
        pair.append(puppet)
    await link.hello(WAIT_S)
    await link.reset(boot=0, run=RUN, seed=1)
    return link, recorder, pair[0], pair[1]


async def bye(link: GuestLink, *all_puppets: Puppet) -> None:
    for puppet in all_puppets:
        puppet.close()
    await link.close()


def test_two_guests_with_one_memory_are_a_split_brain(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        await recorder.reached(1)
        await link.attach("y")
        y.send(2, marker=22)
        await recorder.reached(1)
        x.send(2, marker=99)
        await recorder.reached(1)
        assert len(link.split_brain) == 1
        assert "frame 2 of boot 0" in link.split_brain[0]
        assert "from x" in link.split_brain[0]
        assert recorder.table()["value"].tolist() == [11, 22, 99]
        assert recorder.notes[-1] == {"note": "split-brain", "boot": 0, "sequence": 2, "node": "x"}
        assert link.operations == 2
        await bye(link, x, y)

    asyncio.run(test())


def test_a_second_guest_that_runs_ahead_is_found_when_the_stream_gets_there(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        await recorder.reached(1)
        await link.attach("y")
        x.send(2, marker=98)
        x.send(1, marker=99)
        await recorder.reached(1)
        y.send(1, marker=11)
        y.send(2, marker=22)
        await recorder.reached(2)
        assert [line.split(" of ")[0] for line in link.split_brain] == [
            "split brain: frame 1",
            "split brain: frame 2",
        ]
        await bye(link, x, y)

    asyncio.run(test())


def test_the_same_frames_from_both_nodes_are_no_split_brain(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        await recorder.reached(1)
        await link.attach("y")
        x.send(1, marker=11)
        x.send(2, marker=22)
        for sequence, marker in ((1, 11), (2, 22), (3, 33)):
            y.send(sequence, marker)
        await recorder.reached(2)
        assert recorder.table()["value"].tolist() == [11, 22, 33]
        assert link.split_brain == []
        await bye(link, x, y)

    asyncio.run(test())


def test_a_dead_boot_that_speaks_again_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        await recorder.reached(1)
        await link.attach("y")
        await link.reset(boot=1, run=RUN, seed=2)
        x.send(2, marker=12)
        x.send(1, marker=11)
        y.send(1, marker=21)
        await recorder.reached(1)
        y.send(2, marker=22)
        await recorder.reached(1)
        assert recorder.table(0)["value"].tolist() == [11]
        assert recorder.table(1)["value"].tolist() == [21, 22]
        assert link.split_brain == []
        await bye(link, x, y)

    asyncio.run(test())


def test_a_gap_is_asked_for_and_not_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        await recorder.reached(1)
        x.acks.clear()
        x.send(3, marker=33)
        async with asyncio.timeout(WAIT_S):
            while not x.acked.get("resend"):
                x.acks.clear()
                await x.acks.wait()
        assert x.acked == {"do": "ack", "boot": 0, "seq": 1, "resend": True}
        assert recorder.sequences() == [1]
        await bye(link, x, y)

    asyncio.run(test())


def test_what_has_come_is_acked_without_further_traffic(tmp_path: Path) -> None:
    async def test() -> None:
        link, _, x, y = await puppets(tmp_path)
        x.send(1, marker=11)
        async with asyncio.timeout(WAIT_S):
            while x.acked.get("seq") != 1:
                x.acks.clear()
                await x.acks.wait()
        await bye(link, x, y)

    asyncio.run(test())


def test_a_guest_that_does_not_answer_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_module, "_CALL_TIMEOUT_S", 0.05)

    async def test() -> None:
        link = GuestLink(Recorder())
        await link.listen("x", tmp_path / "x")
        with pytest.raises(LabError, match=r"guest on x did not complete 'ping' within 0\.01 s"):
            await link.hello(0.01)
        with pytest.raises(LabError, match=r"guest on x did not complete 'run' within 0\.05 s"):
            await link.run(WORKLOAD)
        await link.close()

    asyncio.run(test())


def test_rows_that_never_come_leave_the_boot_without_a_bye(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        x.answer = lambda command: {"sequence": 5}
        with pytest.raises(LabError, match="'bye'"):
            await link.bye(0.05)
        assert not [note for note in recorder.notes if note["note"] == "bye"]
        await bye(link, x, y)

    asyncio.run(test())


def test_a_refused_command_carries_the_guests_reason(tmp_path: Path) -> None:
    async def test() -> None:
        link, _, x, y = await puppets(tmp_path)
        x.answer = lambda command: {"error": "OSError: no such device"}
        with pytest.raises(LabError, match="guest on x refused 'run': OSError: no such device"):
            await link.run(WORKLOAD)
        await bye(link, x, y)

    asyncio.run(test())


def test_a_sweep_that_is_not_finished_in_time_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        link, _, x, y = await puppets(tmp_path)
        x.answer = lambda command: {"quiet": False}
        with pytest.raises(LabError, match="could not read every block within 3 s"):
            await link.read_all(3)
        assert await link.quiesce(3) is False
        await bye(link, x, y)

    asyncio.run(test())


def test_a_socket_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        link = GuestLink(Recorder())
        with pytest.raises(LabError, match="nowhere"):
            await link.listen("x", tmp_path / "nowhere" / "x")
        await link.close()

    asyncio.run(test())
