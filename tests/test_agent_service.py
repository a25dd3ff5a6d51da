"""The agent by hand, turn by turn, against a host that is a socket."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import CLOCK_REALTIME, monotonic_ns, time_ns
from typing import Any

import numpy as np
import pytest
from agent_rig import RUN, WORKLOAD, FaultyAio, direct_disk

from jepsen_blk.history.record import PENDING, ROW, F
from workloads.agent import aio as aio_module
from workloads.agent import service as service_module
from workloads.agent import wall_clock as wall_clock_module
from workloads.agent.__main__ import main
from workloads.agent.frames import JSON, ROWS, FrameReader
from workloads.agent.link import Port
from workloads.agent.machine import LinuxMachine
from workloads.agent.service import SLICE_NS, Agent


class Host:
    """The other end of the port: sends lines, collects frames."""

    def __init__(self, folder: Path, limit_bytes: int = 8 << 20, slice_ns: int = SLICE_NS) -> None:
        self.disk = direct_disk(folder, WORKLOAD["blocks"])
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "port"))
        listener.listen(1)
        self.agent = Agent(LinuxMachine(str(self.disk)), Port(str(folder / "port")), limit_bytes, slice_ns)
        self.socket, _ = listener.accept()
        self.socket.setblocking(False)
        listener.close()
        self.messages: list[dict[str, Any]] = []
        self.frames: dict[int, bytes] = {}
        self._reader = FrameReader()

    def say(self, **command: Any) -> None:
        self.socket.sendall(b"\n" + json.dumps(command).encode() + b"\n")

    def turn(self) -> None:
        self.agent.turn()
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            for kind, sequence, payload in self._reader.feed(data):
                if kind == JSON:
                    self.messages.append(json.loads(payload))
                if kind == ROWS:
                    self.frames[sequence] = payload

    def until(self, condition: Callable[[], Any]) -> Any:
        for _ in range(3000):
            if found := condition():
                return found
            self.turn()
        raise AssertionError("the agent did not get there")

    def replies(self, number: int) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("re") == number]

    def ask(self, number: int, do: str, **fields: Any) -> dict[str, Any]:
        self.say(id=number, do=do, **fields)
        return self.until(lambda: self.replies(number))[-1]

    def begin(self, **changes: Any) -> None:
        self.ask(1, "reset", boot=0, run=RUN, seed=1)
        self.ask(2, "run", workload={**WORKLOAD, **changes})

    def rows(self) -> int:
        return sum(len(payload) for payload in self.frames.values()) // ROW.itemsize


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.socket.close()


def test_the_agent_says_hello_until_it_is_commanded(host: Host) -> None:
    host.until(lambda: len([1 for message in host.messages if message.get("hello")]) >= 2)
    host.say(do="ack", seq=0, boot=0, resend=True)
    host.messages.clear()
    host.until(lambda: any(message.get("hello") for message in host.messages))
    host.ask(1, "ping")
    host.messages.clear()
    for number in range(2, 12):
        host.ask(number, "ping")
    assert not any(message.get("hello") for message in host.messages)


def test_a_repeated_command_is_answered_from_memory_and_not_done_again(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    first = host.ask(3, "quiesce", timeout_s=5)
    again = host.ask(1, "reset", boot=0, run=RUN, seed=1)
    assert again == host.replies(1)[0]
    assert host.ask(4, "ping")["operations"] == first["operations"] > 0
    assert len(host.replies(1)) == 2


def test_a_command_that_is_being_done_is_not_begun_again(host: Host) -> None:
    host.begin()
    host.say(id=3, do="read_all", timeout_s=5)
    host.say(id=3, do="read_all", timeout_s=5)
    host.until(lambda: host.replies(3))
    host.ask(4, "ping")
    assert len(host.replies(3)) == 1


@pytest.mark.parametrize("line", [b'{"id":9,"do":"ru', b"\xff\xfe", b"[]", b"{}", b"7", b'{"do":"ping"}'])
def test_a_line_that_is_no_command_is_left(host: Host, line: bytes) -> None:
    host.socket.sendall(b"\n" + line + b"\n")
    assert host.ask(1, "ping")["boot"] == -1


def test_a_line_cut_short_does_not_swallow_the_next(host: Host) -> None:
    host.socket.sendall(b'\n{"id":9,"do":"pi')
    assert host.ask(1, "ping")
    assert not host.replies(9)


@pytest.mark.parametrize(
    ("do", "fields", "why"),
    [
        ("dance", {}, "unknown command"),
        ("run", {"workload": {**WORKLOAD, "queue_depth": 1000}}, "queue_depth"),
        ("run", {"workload": {}}, "queue_depth"),
        ("read_all", {"timeout_s": 1}, "before run"),
        ("issue", {"block": 1, "write": True, "timeout_s": 1}, "before run"),
    ],
)
def test_a_command_that_cannot_be_done_is_refused_with_the_reason(
    host: Host, do: str, fields: dict[str, Any], why: str
) -> None:
    host.ask(1, "reset", boot=0, run=RUN, seed=1)
    assert why in host.ask(2, do, **fields)["error"]
    assert host.ask(3, "ping")["boot"] == 0


def test_a_command_before_reset_is_refused(host: Host) -> None:
    assert "before reset" in host.ask(1, "quiesce", timeout_s=1)["error"]


def test_the_wall_clock_is_set_to_what_it_is_to_be_ahead_and_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(wall_clock_module, "clock_settime_ns", lambda clock, ns: asked.append((clock, ns)))
    before = time_ns() - monotonic_ns()
    told = host.ask(1, "wall_clock")["ahead_ns"]
    assert abs(told - before) < 10**9
    assert asked == []
    host.ask(2, "wall_clock", ahead_ns=told + 3600 * 10**9)
    ((clock, set_to),) = asked
    assert clock == CLOCK_REALTIME
    assert abs(set_to - time_ns() - 3600 * 10**9) < 60 * 10**9


def test_a_wall_clock_that_may_not_be_set_is_refused_with_the_reason(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(clock: int, ns: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(wall_clock_module, "clock_settime_ns", refuse)
    assert "Operation not permitted" in host.ask(1, "wall_clock", ahead_ns=0)["error"]


def test_a_device_that_cannot_be_opened_is_named(host: Host) -> None:
    host.disk.unlink()
    assert str(host.disk) in host.ask(1, "reset", boot=0, run=RUN, seed=1)["error"]


def test_reset_forgets_the_frames_and_numbers_from_one(host: Host) -> None:
    host.begin()
    host.until(lambda: 3 in host.frames)
    reply = host.ask(3, "reset", boot=1, run=RUN, seed=2)
    assert (reply["boot"], reply["sequence"], reply["unacked_bytes"]) == (1, 0, 0)
    host.frames.clear()
    host.ask(4, "run", workload=WORKLOAD)
    host.until(lambda: host.frames)
    assert min(host.frames) == 1


def test_a_boot_counts_its_times_from_where_the_history_is(host: Host) -> None:
    clock_ns, begin_ns = 10**18, monotonic_ns()
    assert host.ask(1, "reset", boot=1, run=RUN, seed=1, clock_ns=clock_ns)["time"] >= clock_ns
    host.ask(2, "run", workload=WORKLOAD)
    host.until(lambda: 3 in host.frames)
    reply = host.ask(3, "quiesce", timeout_s=5)
    host.until(lambda: host.rows() == reply["operations"])
    rows = np.frombuffer(b"".join(host.frames.values()), dtype=ROW)
    assert (rows["start"] >= clock_ns).all()
    assert (rows["finish"] > rows["start"]).all()
    assert rows["finish"].max() <= reply["time"] <= clock_ns + monotonic_ns() - begin_ns


def test_an_ack_of_another_boot_is_left(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    host.ask(3, "quiesce", timeout_s=5)
    host.say(do="ack", seq=10**6, boot=4)
    assert host.ask(4, "ping")["unacked_bytes"] > 0
    host.say(do="ack", seq=10**6, boot=0)
    assert host.ask(5, "ping")["unacked_bytes"] == 0


def test_without_acks_the_agent_stops_issuing_at_its_limit_and_goes_on_after_one(
    tmp_path: Path,
) -> None:
    limit_bytes = 64 << 10
    host = Host(tmp_path, limit_bytes, slice_ns=0)  # once round a turn, however fast the disk is
    host.begin()
    host.until(lambda: host.ask(len(host.messages) + 10, "ping")["unacked_bytes"] >= limit_bytes)
    stuck = host.until(
        lambda: (reply := host.ask(len(host.messages) + 10, "ping"))["in_flight"] == 0 and reply
    )
    assert stuck["unacked_bytes"] < limit_bytes + (64 << 10)
    still = host.ask(9_000, "ping")
    assert still["operations"] == stuck["operations"]
    host.say(do="ack", seq=still["sequence"], boot=0)
    host.until(lambda: host.ask(len(host.messages) + 10_000, "ping")["operations"] > still["operations"])
    host.socket.close()


def test_the_replies_stand_on_rows_that_have_been_framed(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    quiet = host.ask(3, "quiesce", timeout_s=5)
    assert quiet["quiet"] is True
    host.until(lambda: quiet["sequence"] in host.frames)
    assert host.rows() == quiet["operations"]
    swept = host.ask(4, "read_all", timeout_s=5)
    host.until(lambda: swept["sequence"] in host.frames)
    assert host.rows() == swept["operations"] == quiet["operations"] + WORKLOAD["blocks"]


def test_the_same_workload_again_goes_on_after_quiesce(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    before = host.ask(3, "quiesce", timeout_s=5)["operations"]
    host.ask(4, "run", workload=WORKLOAD)
    host.until(lambda: host.rows() > before)
    assert host.ask(5, "quiesce", timeout_s=5)["indeterminate"] == 0


def issue(host: Host, number: int, block: int, *, write: bool = True) -> dict[str, Any]:
    return host.ask(number, "issue", block=block, write=write, timeout_s=5)


def test_one_write_is_issued_with_its_value_and_read_back(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    before = host.ask(3, "quiesce", timeout_s=5)["operations"]
    written = issue(host, 4, 7)
    assert written["quiet"] is True
    issue(host, 5, 7, write=False)
    last = host.ask(6, "quiesce", timeout_s=5)
    assert last["operations"] == before + 2
    host.until(lambda: last["sequence"] in host.frames)
    rows = np.frombuffer(b"".join(host.frames[number] for number in sorted(host.frames)), ROW)[-2:]
    assert rows["f"].tolist() == [F.WRITE, F.READ]
    assert rows["block"].tolist() == [7, 7]
    assert rows["value"].tolist() == [written["value"]] * 2


def test_one_operation_is_refused_while_the_workload_runs_or_for_no_block(host: Host) -> None:
    host.begin()
    assert "quiesce first" in issue(host, 3, 7)["error"]
    host.ask(4, "quiesce", timeout_s=5)
    assert f"0..{WORKLOAD['blocks'] - 1}" in issue(host, 5, WORKLOAD["blocks"])["error"]
    assert issue(host, 6, 0)["quiet"] is True


def test_a_write_is_issued_beside_one_in_flight_to_its_block_and_the_workload_goes_on_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_module, "Aio", FaultyAio)
    host = Host(tmp_path)
    host.begin()
    host.ask(3, "quiesce", timeout_s=5)
    monkeypatch.setattr(FaultyAio, "silent", [7])
    values = [issue(host, number, 7)["value"] for number in (4, 5)]
    assert values[1] == values[0] + 1
    assert host.ask(6, "quiesce", timeout_s=0)["in_flight"] == 2
    assert "nothing is in flight" in host.ask(7, "run", workload=WORKLOAD)["error"]
    monkeypatch.setattr(FaultyAio, "silent", [])
    done = host.ask(8, "quiesce", timeout_s=5)
    assert done["quiet"] is True
    host.ask(9, "run", workload=WORKLOAD)
    host.until(lambda: host.rows() > done["operations"])
    host.socket.close()


def test_quiesce_tells_that_something_is_still_in_flight_and_abandon_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio_module, "Aio", FaultyAio)
    monkeypatch.setattr(FaultyAio, "silent", [0])
    host = Host(tmp_path)
    host.begin()
    engine = host.agent._engine
    assert engine is not None
    host.until(lambda: engine._disk.withheld)  # type: ignore[attr-defined]
    reply = host.ask(3, "quiesce", timeout_s=0.1)
    assert (reply["quiet"], reply["in_flight"]) == (False, 1)
    abandoned = host.ask(4, "abandon")
    assert abandoned["count"] == 1
    host.until(lambda: abandoned["sequence"] in host.frames)
    last = host.frames[abandoned["sequence"]][-ROW.itemsize :]
    assert int.from_bytes(last[-8:], "little") == PENDING
    host.socket.close()


def test_the_agent_ends_when_the_host_confirms_the_end(host: Host) -> None:
    host.begin()
    host.until(lambda: host.frames)
    reply = host.ask(3, "bye")
    assert not host.agent.ended
    host.say(do="ack", seq=reply["sequence"], boot=0, end=True)
    host.until(lambda: host.agent.ended)


def test_an_unconfirmed_end_comes_by_itself(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_LINGER_NS", 0)
    host.begin()
    host.ask(3, "bye")
    assert host.agent.ended


def test_the_program_refuses_other_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "/dev/vda"]) == 254
    assert "usage" in capsys.readouterr().err


def test_the_program_ends_with_an_error_when_the_port_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--device", str(tmp_path / "disk"), "--port", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
