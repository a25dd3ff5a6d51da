"""The host's end of the link against guests that are made by hand: split brain, gaps, silence, refusals."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_rig import RUN, WAIT_S, WORKLOAD, Recorder
from puppet import Puppet

from jepsen_blk.errors import LabError
from jepsen_blk.history.record import ROW, F
from workloads import guest as guest_module
from workloads.guest import GuestLink


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


def test_a_power_loss_is_noted_between_what_came_before_it_and_what_the_clock_can_show_after_it(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        shown_ns, reported_ns = 10**15, 10**15 + 5
        x.answer = lambda command: {"time": shown_ns}
        row = np.zeros(1, dtype=ROW)
        row["f"], row["value"], row["finish"] = F.WRITE, 11, reported_ns
        x.send_rows(1, row.tobytes())
        await recorder.reached(1)
        begin_ns = time.monotonic_ns()
        async with link.power_loss():
            inside_ns = time.monotonic_ns()
            row["finish"] = reported_ns + 10**12
            x.send_rows(2, row.tobytes())  # how far it was before the power was lost nobody knows
            await recorder.reached(1)
        with pytest.raises(LabError, match="the servers live"):
            async with link.power_loss():
                raise LabError("the servers live")
        (crash,) = (note for note in recorder.notes if note["note"] == "crash")
        assert crash["earliest"] == reported_ns
        assert crash["latest"] >= reported_ns + 10**12
        row["finish"] = reported_ns
        x.answer = lambda command: {"time": 3 * 10**15}
        async with link.power_loss():
            inside_ns = time.monotonic_ns() - inside_ns
        end_ns = time.monotonic_ns()
        assert recorder.notes[-1]["earliest"] == 3 * 10**15
        took_ns = recorder.notes[-1]["latest"] - 3 * 10**15
        assert 0 < took_ns <= 1.01 * (end_ns - begin_ns)
        await bye(link, x, y)

    asyncio.run(test())


def test_a_boot_that_is_given_up_is_fenced_and_the_next_one_goes_on_after_it(tmp_path: Path) -> None:
    async def test() -> None:
        link, recorder, x, y = await puppets(tmp_path)
        row = np.zeros(1, dtype=ROW)
        row["f"], row["value"], row["finish"] = F.WRITE, 11, 10**15
        x.send_rows(1, row.tobytes())
        await recorder.reached(1)
        asked: list[dict[str, Any]] = []
        y.answer = lambda command: asked.append(command) or {"time": command.get("clock_ns", 0)}
        assert [link.give_up(), link.give_up()] == [0, 0]
        x.send(2, marker=12)
        await link.attach("y")
        assert await link.boot_again() == 1
        y.send(1, marker=21)
        await recorder.reached(1)
        (fence,) = (note for note in recorder.notes if note["note"] == "fence")
        (reset,) = (command for command in asked if command["do"] == "reset")
        assert fence["boot"] == 0
        assert 10**15 < fence["time"] < reset["clock_ns"] < 10**15 + WAIT_S * 10**9
        assert (reset["boot"], reset["run"], reset["seed"]) == (1, RUN, 2)
        assert recorder.table(0)["value"].tolist() == [11]
        assert recorder.table(1)["value"].tolist() == [21]
        link.give_up()
        assert [note["boot"] for note in recorder.notes if note["note"] == "fence"] == [0, 1]
        assert recorder.notes[-1]["time"] >= reset["clock_ns"]
        await bye(link, x, y)

    asyncio.run(test())
