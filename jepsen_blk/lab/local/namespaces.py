"""Nodes of the local lab: network namespaces inside one user, network, mount and process namespace.

No root is needed, nothing touches the host's network, and nothing outlives the controller (see
init.py). Pathname unix sockets ignore network namespaces, so the controller reaches QMP, agent and
storage control through the lab's private /run without standing on a network that a fault can cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import Completed

_INIT = Path(__file__).with_name("init.py")
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_FREEZE_TIMEOUT_S = 5.0
_POLL_S = 0.005


class LocalProcess:
    """A process inside the lab; `nsenter` is its parent on the host's side and ends with it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, log: Path) -> None:
        self._process = process
        self.name = name
        self.log = log

    @property
    def running(self) -> bool:
        """Tell whether it still runs."""
        return self._process.returncode is None

    async def wait(self, timeout_s: float) -> int:
        """Return the exit code; raise LabError if it still runs after `timeout_s`."""
        try:
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError as error:
            raise LabError(f"{self.name} still runs after {timeout_s:g} s") from error

    @property
    def frozen(self) -> bool:
        """Tell whether it is stopped by a signal."""
        children = _children(self._process.pid)
        return bool(children) and all(_is_stopped(child) for child in children)

    def freeze(self) -> None:
        """Stop it by a signal; nsenter before it, since that would stop and continue with its child."""
        for pid in (self._process.pid, *_children(self._process.pid)):
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on; no error if it was not stopped."""
        for pid in (*_children(self._process.pid), self._process.pid):
            _signal(pid, signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it and wait until it is gone."""
        if self.running:
            _kill_below(self._process.pid)
            _signal(self._process.pid, signal.SIGCONT)  # a frozen nsenter would never see the end
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def tail(self, lines: int = 5) -> str:
        """Return the last lines of its log, on one line, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return " | ".join(text.strip().splitlines()[-lines:])


class LocalNode:
    """A node of the local lab; commands run in its network namespace through nsenter."""

    def __init__(
        self, name: str, prefix: Sequence[str], started: list[LocalProcess], root_prefix: Sequence[str] = ()
    ) -> None:
        self._name = name
        self._prefix = tuple(prefix)
        self._root_prefix = tuple(root_prefix) or self._prefix
        self._started = started
        self._mine: list[LocalProcess] = []

    @property
    def name(self) -> str:
        """The node's name."""
        return self._name

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 10.0) -> Completed:
        """Run a command to its end; raise LabError when it exits non-zero or takes too long."""
        process = await asyncio.create_subprocess_exec(
            *self._prefix,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), timeout_s)
        except BaseException as error:
            _kill_below(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise LabError(f"node {self._name}: {argv[0]} took more than {timeout_s:g} s") from error
            raise
        said = out.decode(errors="replace"), err.decode(errors="replace")
        return Completed(tuple(argv), process.returncode or 0, *said).require_success(self._name)

    async def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: dict[str, str] | None = None,
        fds: Sequence[int] = (),
        as_root: bool = False,
    ) -> LocalProcess:
        """Start a long-running process with its output in `log`; `fds` are inherited by number.

        `as_root` leaves it the rights of a controller that is the host's root: a user namespace ends them.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(self._root_prefix if as_root else self._prefix),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                pass_fds=tuple(fds),
                start_new_session=True,  # the terminal's Ctrl-C is the controller's to handle
            )
        started = LocalProcess(process, f"{self._name}:{Path(argv[0]).name}", log)
        self._started.append(started)
        self._mine.append(started)
        return started

    async def freeze(self) -> None:
        """Stop every process that was started on the node, and return once they stand still."""
        for process in self._running():
            process.freeze()
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        while not self.frozen:
            if time.monotonic() > deadline:
                raise LabError(f"node {self._name} does not stand still after {_FREEZE_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)

    def thaw(self) -> None:
        """Let the processes go on; no error if they were not stopped."""
        for process in self._running():
            process.thaw()

    @property
    def frozen(self) -> bool:
        """Tell whether the node has processes and all of them are stopped."""
        running = self._running()
        return bool(running) and all(process.frozen for process in running)

    def _running(self) -> list[LocalProcess]:
        return [process for process in self._mine if process.running]


class Namespaces:
    """The lab's namespaces while they exist: make nodes, give their paths, take all down."""

    def __init__(self, init: asyncio.subprocess.Process) -> None:
        self._init = init
        self.pid = init.pid
        proc = Path(f"/proc/{self.pid}")
        self.run_dir = proc / "root/run/lab"
        self.inner_run_dir = Path("/run/lab")
        self._netns = proc / "root/run/netns"
        inside = (f"--mount={proc}/ns/mnt", f"--pid={proc}/ns/pid_for_children")
        self._prefix = ("nsenter", "--preserve-credentials", f"--user={proc}/ns/user", *inside)
        self._root_prefix = ("nsenter", *inside)
        self._can_keep_root = False
        self._started: list[LocalProcess] = []
        self.root = LocalNode("lab", (*self._prefix, f"--net={proc}/ns/net", "--"), self._started)

    @classmethod
    async def create(cls) -> Namespaces:
        """Make the namespaces; raises LabError with the remedy where the kernel forbids them."""
        init = await asyncio.create_subprocess_exec(
            *("unshare", "--user", "--map-root-user", "--net", "--pid", "--mount-proc", "--fork"),
            *("--kill-child", sys.executable, "-I", "-S", str(_INIT)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if init.stdout is None or init.stderr is None:
            raise LabError("the lab's first process has no pipes")
        try:
            ready = await asyncio.wait_for(init.stdout.readline(), _START_TIMEOUT_S)
        except TimeoutError:
            ready = b""
        if ready != b"ready\n":
            with contextlib.suppress(ProcessLookupError):
                init.kill()
            why = (await init.stderr.read()).decode(errors="replace").strip() or "no answer"
            raise LabError(f"cannot make the lab's namespaces: {why}; run `jepsen-blk doctor` for the remedy")
        namespaces = cls(init)
        if os.geteuid() == 0:
            await namespaces._try_to_keep_root()
        return namespaces

    async def node(self, name: str) -> LocalNode:
        """Make a network namespace with loopback up and return it as a node."""
        await self.root.run(["ip", "netns", "add", name])
        inside = (f"--net={self._netns / name}", "--")
        root_prefix = (*self._root_prefix, *inside) if self._can_keep_root else ()
        node = LocalNode(name, (*self._prefix, *inside), self._started, root_prefix)
        await node.run(["ip", "link", "set", "lo", "up"])
        return node

    async def _try_to_keep_root(self) -> None:
        """See whether root may enter without the user namespace: a container's root may not."""
        with contextlib.suppress(LabError):
            await LocalNode("lab", (*self._root_prefix, "--"), []).run(["true"])
            self._can_keep_root = True

    def shell_command(self, node: str) -> str:
        """Give the command line that opens a shell on a node, for a user who wants to look around."""
        enter = ("nsenter", f"--target={self.pid}", "--user", "--mount", "--preserve-credentials")
        return " ".join((*enter, "ip", "netns", "exec", node, "bash"))

    async def destroy(self) -> None:
        """End the first process: the kernel kills everything inside. Safe to call twice."""
        if self._init.stdin is not None:
            self._init.stdin.close()
        try:
            await asyncio.wait_for(self._init.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            self._init.kill()  # --kill-child takes process 1 along
            await self._init.wait()
        for process in self._started:  # each nsenter ends a moment after what it ran, and is to be reaped
            if process.running:
                await process.kill()


def _kill_below(pid: int) -> None:
    """Kill what nsenter runs and what that has started: no signal goes through nsenter, which only waits.

    A process that was left would hold the pipes open, and the end would not be seen before its own.
    """
    for child in _children(pid):
        _signal(child, signal.SIGSTOP)  # it starts nothing more
        _kill_below(child)
        _signal(child, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    try:
        return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
