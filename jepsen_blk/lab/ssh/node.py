"""A node that is reached over SSH; implements lab.seams.Node.

Closing a channel does not end what it started: sshd leaves that running. So every command is bounded on the
node itself, by `timeout`, and what is started for long tells its process id first, by which it is
ended over any connection. A command whose connection is lost is never repeated: it may have been done.
"""

from __future__ import annotations

import asyncio
import shlex
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

import paramiko

from jepsen_blk.errors import LabError
from jepsen_blk.lab.deeds import FrozenProcess, undo
from jepsen_blk.lab.ledger import Ledger, NoLedger
from jepsen_blk.lab.processes import ProcessId, parse_stat, signal_argv, state
from jepsen_blk.lab.seams import Completed
from jepsen_blk.lab.ssh.connection import Connection, cut_off
from jepsen_blk.lab.ssh.inventory import Host

_GRACE_S = 5.0
"""How much later than on the node a command's time is over here: then nothing answers any more."""
_START_TIMEOUT_S = 10.0
_GONE_TIMEOUT_S = 5.0
_POLL_S = 0.01
_CHUNK_BYTES = 64 << 10
_TIMED_OUT = (124, 137, -1)
"""How `timeout` ends when it ended its command: by SIGTERM, by SIGKILL, by a SIGKILL that took it along."""
_STARTED = 'cat "/proc/$$/stat"; exec "$@"'


class SshProcess:
    """A process that was started on a node and runs until it ends or is killed."""

    def __init__(self, node: SshNode, name: str, process: ProcessId, ledger: Ledger) -> None:
        self._node = node
        self.name = name
        self._process = process
        self._deed = FrozenProcess(process.pid, process.started_ticks)
        self._ledger = ledger
        self.ended: Future[int] = Future()
        self._killed = False

    @property
    def running(self) -> bool:
        """Tell whether it still runs, as far as is known: it is not seen to end without a connection."""
        return not self._killed and (not self.ended.done() or self.ended.exception() is not None)

    async def wait(self, timeout_s: float) -> int:
        """Return the exit code, -1 after a signal; raise LabError if it still runs after `timeout_s`."""
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self.ended)), timeout_s)
        except TimeoutError as error:
            raise LabError(f"{self.name} still runs after {timeout_s:g} s") from error

    async def kill(self) -> None:
        """Kill it and wait until it is gone; no error if it has ended."""
        if not self.running:
            return
        await self._node.run(signal_argv(self._process, "KILL"))
        await self._until(("", "Z"), "is not gone")
        self._killed = True

    async def freeze(self) -> None:
        """Stop it by a signal, which the node's ledger knows of, and return once it stands still."""
        await self._ledger.enter(self._node, self._deed)
        await self._node.run(signal_argv(self._process, "STOP"))
        await self._until(("T",), "does not stand still")

    async def thaw(self) -> None:
        """Let it go on; no error if it was not stopped."""
        await undo(self._node, self._deed)
        await self._ledger.strike(self._node, self._deed)

    async def frozen(self) -> bool:
        """Tell whether it is stopped by a signal."""
        return await self._deed.stands(self._node)

    async def _until(self, states: Sequence[str], otherwise: str) -> None:
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        while await state(self._node, self._process) not in states:
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} {otherwise} after {_GONE_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)


class SshNode:
    """A node behind sshd. Connecting may take up to 10 s beside what a command is given."""

    def __init__(self, host: Host, ledger: Ledger | None = None) -> None:
        self._host = host
        self._ledger = ledger or NoLedger()
        self._connection = Connection(host)
        self._as_root = ("sudo", "-n", "--") if host.sudo else ()

    @property
    def name(self) -> str:
        """The node's name."""
        return self._host.name

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 10.0) -> Completed:
        """Run a command to its end; raise LabError when it exits non-zero or takes too long.

        A caller that is cancelled waits for the command's end, so that what undoes it comes after.
        """
        bounded = ["timeout", "-k", "1", f"{timeout_s:g}", *argv]
        talk = asyncio.ensure_future(
            asyncio.to_thread(self._run, argv[0], self._line(bounded), stdin.encode(), timeout_s)
        )
        try:
            code, out, err = await asyncio.shield(talk)
        except asyncio.CancelledError:
            await asyncio.wait((talk,))
            raise
        said = out.decode(errors="replace"), err.decode(errors="replace")
        return Completed(tuple(argv), code, *said).require_success(self.name)

    async def start(self, argv: Sequence[str], *, log: Path) -> SshProcess:
        """Start a long-running process with its output in `log`, as long as the connection lasts."""
        line = self._line(["sh", "-c", _STARTED, "sh", *argv])
        return await asyncio.to_thread(self._start, f"{self.name}:{Path(argv[0]).name}", line, log)

    async def close(self) -> None:
        """End the connection."""
        await asyncio.to_thread(self._connection.close)

    def _line(self, argv: Sequence[str]) -> str:
        """Return the command for the login shell on the other side, which takes a line and nothing else."""
        return shlex.join((*self._as_root, *argv))

    def _run(self, what: str, line: str, stdin: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Run a command and return its exit code and both outputs; blocks."""
        with self._connection.open_channel() as channel:
            began = time.monotonic()
            with cut_off(channel, timeout_s + 1 + _GRACE_S) as cut:
                try:
                    channel.exec_command(line)
                    out, err = _exchange(channel, stdin)
                    code = channel.recv_exit_status()
                except (paramiko.SSHException, EOFError, OSError) as error:
                    raise self._lost(what, str(error)) from error
                if cut.is_set():
                    raise self._lost(what, f"no answer after {timeout_s + 1 + _GRACE_S:g} s")
            if code in _TIMED_OUT and time.monotonic() - began >= timeout_s:
                raise LabError(f"node {self.name}: {what} took more than {timeout_s:g} s")
            if code == -1 and _is_lost(channel):
                raise self._lost(what, "it may have been done")
            return code, out, err

    def _start(self, name: str, line: str, log: Path) -> SshProcess:
        """Start a process, read who it is, and leave its output to a thread; blocks."""
        channel = self._connection.open_channel()
        channel.set_combine_stderr(True)
        with cut_off(channel, _START_TIMEOUT_S):
            try:
                channel.exec_command(line)
                channel.shutdown_write()
                first, rest = _first_line(channel)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise self._lost(name, str(error)) from error
        try:
            process, _ = parse_stat(first)
        except LabError as error:
            channel.close()
            raise LabError(f"node {self.name}: {name} cannot be started: {first.strip() or '-'}") from error
        started = SshProcess(self, name, process, self._ledger)
        output = log.open("ab", buffering=0)
        threading.Thread(
            target=_keep_log, args=(channel, output, rest, started.ended, name), name=name, daemon=True
        ).start()
        return started

    def _lost(self, what: str, why: str) -> LabError:
        return LabError(f"node {self.name}: the connection was lost during {what}: {why}")


def _exchange(channel: paramiko.Channel, stdin: bytes) -> tuple[bytes, bytes]:
    """Feed a command and read both its outputs at once: either would stop it when it is full."""
    err: list[bytes] = []
    threads = [
        threading.Thread(target=_feed, args=(channel, stdin)),
        threading.Thread(target=lambda: err.extend(iter(lambda: channel.recv_stderr(_CHUNK_BYTES), b""))),
    ]
    for thread in threads:
        thread.start()
    out = list(iter(lambda: channel.recv(_CHUNK_BYTES), b""))
    for thread in threads:
        thread.join()
    return b"".join(out), b"".join(err)


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    try:
        channel.sendall(stdin)
        channel.shutdown_write()
    except (paramiko.SSHException, EOFError, OSError):
        return  # it ended without reading all: its exit code says whether that was right


def _first_line(channel: paramiko.Channel) -> tuple[str, bytes]:
    """Return the first line of the output, or all of it if that has none, and what came behind."""
    got = b""
    while b"\n" not in got and (more := channel.recv(_CHUNK_BYTES)):
        got += more
    first, _, rest = got.partition(b"\n")
    return first.decode(errors="replace"), rest


def _keep_log(
    channel: paramiko.Channel, output: BinaryIO, rest: bytes, ended: Future[int], name: str
) -> None:
    """Write a process's output to its log until it ends, then say how it ended."""
    with channel, output:
        output.write(rest)
        for chunk in iter(lambda: channel.recv(_CHUNK_BYTES), b""):
            output.write(chunk)
        code = channel.recv_exit_status()
        if code == -1 and _is_lost(channel):
            ended.set_exception(LabError(f"{name}: the connection was lost; it may still run"))
        else:
            ended.set_result(code)


def _is_lost(channel: paramiko.Channel) -> bool:
    """Tell whether a channel ended because its connection did: that shows itself a moment later."""
    transport = channel.get_transport()
    transport.join(0.5)
    return not transport.is_active()
