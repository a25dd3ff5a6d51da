"""A write held inside a stock server: a thread of it stopped where it is about to write to its file.

No server offers that, so it is done as a debugger does. What the thread has taken is accepted for good; the
other threads go on.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SEIZE, _INTERRUPT, _TO_SYSCALL, _DETACH, _SYSCALL_INFO = 0x4206, 0x4207, 24, 17, 0x420E
_TRACE_SYSGOOD = 1
_ENTRY = 1
_OWN_TRACEES = 0x60000000
"""__WALL and __WNOTHREAD: no child of another thread's is reaped here."""
_PWRITE64 = {"x86_64": 18, "aarch64": 68}
_BOUND_S = 20.0


class ServerHold:
    """Holds the first write to its file that one of the server's threads begins; `release` lets it go on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._held = threading.Event()
        self._watching = threading.Event()
        self._released = threading.Event()
        self._failure = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._watching.wait(_BOUND_S)
        if self._failure:
            pytest.skip(f"no thread may be traced here: {self._failure}")

    def wait_held(self, timeout_s: float) -> None:
        assert self._held.wait(timeout_s), "no thread of the server began a write"

    def release(self) -> None:
        """Let the write go on; no error if it was released before."""
        self._released.set()
        self._thread.join(_BOUND_S)

    def _run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._ptrace = libc.ptrace
        threads = {int(name) for name in os.listdir(f"/proc/{self._pid}/task")} - {self._pid}
        for thread in threads:
            if self._ptrace(_SEIZE, thread, None, _TRACE_SYSGOOD) or self._ptrace(
                _INTERRUPT, thread, None, None
            ):
                self._failure = os.strerror(ctypes.get_errno())
                break
        self._watching.set()
        if self._failure:
            return  # the end of the tracing thread detaches the others
        holder = self._next_writer()
        self._held.set()
        self._let_go(threads - {holder})
        self._released.wait(_BOUND_S)
        self._ptrace(_DETACH, holder, None, None)

    def _next_writer(self) -> int:
        while True:
            thread, _ = os.waitpid(-1, _OWN_TRACEES)
            if self._begins_write(thread):
                return thread
            self._ptrace(_TO_SYSCALL, thread, None, None)

    def _begins_write(self, thread: int) -> bool:
        info = ctypes.create_string_buffer(88)
        self._ptrace(_SYSCALL_INFO, thread, len(info), ctypes.addressof(info))
        operation, number = struct.unpack_from("=B23xQ", info.raw)
        return bool(operation == _ENTRY and number == _PWRITE64[platform.machine()])

    def _let_go(self, threads: set[int]) -> None:
        for thread in threads:
            self._ptrace(_INTERRUPT, thread, None, None)
        for thread in threads:
            os.waitpid(thread, _OWN_TRACEES)
            self._ptrace(_DETACH, thread, None, None)


@contextmanager
def held_in_server(pid: int) -> Iterator[ServerHold]:
    hold = ServerHold(pid)
    try:
        yield hold
    finally:
        hold.release()


def process_below(name: str) -> int:
    """Return the process of that name that was started, at whatever remove, by this one."""
    parents, named = {}, []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        pid = int(fields["Pid"])
        parents[pid] = int(fields["PPid"])
        if fields["Name"] == name:
            named.append(pid)
    (found,) = [pid for pid in named if _descends(pid, parents)]
    return found


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid != 0
