"""Real storage servers for tests: started in the foreground, killed by their pid, asked over JSON."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from nbd_client import NbdClient

from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.storage.servers import Listen, PolicyTarget, policy_target_argv

BOUND_S = 10.0


def until(condition: Callable[[], Any]) -> Any:
    """Return the first true value of `condition`; fails after a bound."""
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"not true within {BOUND_S} s")


def _own_ports() -> Iterator[int]:
    """Ports of loopback that nothing listens on, each once, below those that the kernel gives away.

    One that the kernel chose may be chosen again before it is listened on: for the next who asks, or for the
    near end of an outgoing connection, which may even connect to itself. Each of the processes that run tests
    side by side has a share of them.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    share = _PORTS // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    begin = end - share * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) + 1)
    for number in range(share):
        port = begin + (os.getpid() * 97 + number) % share
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_PORTS = 16384
_ports = _own_ports()


def free_port() -> int:
    return next(_ports)


def can_connect(address: int | Path) -> bool:
    """Tell whether the port of loopback, or the unix socket, takes a connection."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(BOUND_S)
        try:
            probe.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        except OSError:
            return False
    return True


@contextmanager
def running(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait(BOUND_S)


def ask_raw(path: Path, line: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(20)
        control.connect(str(path))
        control.sendall(line)
        reply = b""
        while part := control.recv(65536):
            reply += part
    assert reply.count(b"\n") == 1
    return json.loads(reply)


class Rig:
    """A storage under test: its control socket, its log, and clients of its nodes."""

    def __init__(self, stack: ExitStack, directory: Path, ports: dict[str, int]) -> None:
        self._stack = stack
        self.control = directory / "control.sock"
        self.log = directory / "target.jsonl"
        self.ports = ports
        self.process: subprocess.Popen[bytes] | None = None
        self._argv: Sequence[str] = ()

    def client(self, node: str, **how: bool) -> NbdClient:
        client = NbdClient(self.ports[node], node, **how)
        self._stack.callback(client.close)
        return client

    def ask(self, do: str, **fields: Any) -> Any:
        reply = ask_raw(self.control, json.dumps({"do": do, **fields}).encode() + b"\n")
        assert reply.pop("ok"), reply
        return reply

    def refusal(self, do: str, **fields: Any) -> str:
        reply = ask_raw(self.control, json.dumps({"do": do, **fields}).encode() + b"\n")
        assert reply["ok"] is False
        assert "\n" not in reply["error"]
        return str(reply["error"])

    def start(self, argv: Sequence[str], log: Path) -> None:
        """Start what answers the control socket, and wait until it does."""
        self._argv = argv
        process = self.process = self._stack.enter_context(running(argv, log))

        def answers() -> bool:
            assert process.poll() is None, f"{argv[0]} ended: {log.read_text()}"
            try:
                self.ask("stats")
            except OSError:
                return False
            return True

        until(answers)

    def kill(self) -> None:
        """Kill it at once, as a power loss does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(BOUND_S)

    def restart(self) -> None:
        """Kill it and start it again as it was started first."""
        self.kill()
        self.start(self._argv, self.log.with_name("again.log"))

    def hold(self, client: NbdClient, node: str, block: int, data: bytes) -> tuple[int, int]:
        """Have the write held; return the hold and the write's cookie."""
        hold = self.ask("hold", node=node, blocks=[block])["hold"]
        cookie = client.send_write(block, data)
        self.ask("wait_held", hold=hold, timeout_s=BOUND_S)
        return hold, cookie

    def land(self, hold: int) -> None:
        self.ask("release", hold=hold)
        self.ask("wait_landed", hold=hold, timeout_s=BOUND_S)

    def in_flight(self, node: str) -> list[dict[str, Any]]:
        writes: list[dict[str, Any]] = self.ask("in_flight", node=node)["writes"]
        return writes

    def lines(self, kind: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["f"] == kind]


@contextmanager
def policy_target(
    directory: Path,
    conflict: ConflictModel = ConflictModel.ARRIVAL_ORDER,
    *,
    latency_ms: float = 0,
    flush: bool = False,
    backing: Path | None = None,
    cache: Path | None = None,
    ignore_flush: bool = False,
    size_bytes: int = 1 << 20,
) -> Iterator[Rig]:
    port = free_port()
    with ExitStack() as stack:
        rig = Rig(stack, directory, {"x": port, "y": port})
        files = (rig.control, rig.log, backing, cache)
        target = PolicyTarget(size_bytes, conflict, latency_ms, flush, *files, ignore_flush)
        argv = policy_target_argv(Listen("127.0.0.1", port), target)
        rig.start(argv, directory / "nbdkit.log")
        yield rig
