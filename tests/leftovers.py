"""What a controller and its lab may leave behind: processes, found by a mark in their environment."""

import os
import select
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "JEPSEN_BLK_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Processes that inherited the mark in their environment: those of one controller's lab."""
    return [pid for pid in everyone() if has_mark(pid, mark)]


def has_mark(pid: int, mark: str) -> bool:
    """Tell whether a process inherited the mark; one that is gone has not."""
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def lab_of(mark: str) -> set[str]:
    """Namespaces that the marked processes are in.

    The mark is looked for again after them: a process may end meanwhile, and its number be another lab's.
    """
    found = set()
    for pid in marked(mark):
        inside = namespaces([pid])
        if has_mark(pid, mark):
            found |= inside
    return found


def namespaces(pids: Iterable[int]) -> set[str]:
    """Network, process and mount namespaces that these processes are in, without our own."""
    kinds = ("net", "pid", "mnt")
    found = set()
    for pid in pids:
        for kind in kinds:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return found - {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}


def everyone() -> list[int]:
    """Every process of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def wait_gone(mark: str, lab: set[str], timeout_s: float = 15) -> list[int]:
    """Wait until no process is marked or in the lab's namespaces; return those that still are.

    A dying process loses its environment before it leaves its namespaces, and is in neither when it is gone.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        inside = [pid for pid in everyone() if not lab.isdisjoint(namespaces([pid]))]
        left = sorted({*marked(mark), *inside})
        if not left or time.monotonic() > deadline:
            return left
        ends = [end for end in map(pidfd, left) if end is not None]
        if ends:
            select.select(ends, [], [], 1)
        for end in ends:
            os.close(end)


def pidfd(pid: int) -> int | None:
    """Open a process to wait for; None if it has gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
