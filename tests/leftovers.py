"""What a controller and its lab may leave behind: processes, found by a mark in their environment."""

import os
import select
import time
from pathlib import Path
from typing import Self

MARK = "JEPSEN_BLK_TEST_MARK"
KINDS = ("net", "pid", "mnt")


def marked(mark: str) -> list[int]:
    """Processes that inherited the mark in their environment: those of one controller's lab."""
    return [pid for pid in everyone() if has_mark(pid, mark)]


def has_mark(pid: int, mark: str) -> bool:
    """Tell whether a process inherited the mark; one that is gone has not."""
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


class Lab:
    """The namespaces that one controller's processes were seen in, held open as long as this is.

    The kernel gives the number of a namespace that is gone to the next one, which may be another lab's.
    """

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        self._own = {os.stat(f"/proc/self/ns/{kind}").st_ino for kind in KINDS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for held in self._held.values():
            os.close(held)

    def see(self, mark: str) -> None:
        """Add the namespaces that the marked processes are in now, without our own.

        The mark is looked for again after them: a process may end meanwhile, and its number be another lab's.
        """
        for pid in marked(mark):
            for kind in KINDS:
                try:
                    opened = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                except OSError:
                    continue
                number = os.fstat(opened).st_ino
                if has_mark(pid, mark) and number not in self._own and number not in self._held:
                    self._held[number] = opened
                else:
                    os.close(opened)

    def inside(self) -> list[int]:
        """Processes that are in one of the namespaces."""
        return [pid for pid in everyone() if not self._held.keys().isdisjoint(namespaces(pid))]


def namespaces(pid: int) -> set[int]:
    """Numbers of the network, process and mount namespace that a process is in; none if it is gone."""
    found = set()
    for kind in KINDS:
        try:
            found.add(os.stat(f"/proc/{pid}/ns/{kind}").st_ino)
        except OSError:
            continue
    return found


def everyone() -> list[int]:
    """Every process of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def wait_gone(mark: str, lab: Lab, timeout_s: float = 15) -> list[int]:
    """Wait until no process is marked or in the lab's namespaces; return those that still are.

    A dying process loses its environment before it leaves its namespaces, and is in neither when it is gone.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left = sorted({*marked(mark), *lab.inside()})
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
