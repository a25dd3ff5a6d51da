"""Where runs are made: the seam to `concurrent.futures`, and a pool of processes of this machine.

A worker may die, or never answer. The pool then is whole again for what comes next, and who has sent the run
(engine.py) learns from its future that it is lost.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Protocol

from jepsen_blk.campaign.worker import Job, Made, make_run

_PR_SET_PDEATHSIG = 1


class Pool(Protocol):
    """Makes runs elsewhere."""

    @property
    def width(self) -> int:
        """How many runs it makes at once."""

    def submit(self, job: Job) -> Future[Made]:
        """Begin a run; the future has an error if its worker is lost. UserError if none can begin."""

    def give_up(self, stuck: Collection[Future[Made]]) -> None:
        """End what never answers; other runs may be lost with it, and their futures then say so."""

    def close(self) -> None:
        """End everything, also what is under way."""


class ProcessPool:
    """Implements Pool by processes of this machine, which die with this one."""

    def __init__(self, jobs: int) -> None:
        self.width = jobs
        self._scratch = Path(tempfile.mkdtemp(prefix="jepsen-blk-compare."))
        self._executor = self._make()

    def submit(self, job: Job) -> Future[Made]:
        """Begin a run, in a new pool if the one there was is broken."""
        try:
            return self._executor.submit(make_run, job)
        except BrokenProcessPool:
            self._end()
            self._executor = self._make()
            return self._executor.submit(make_run, job)

    def give_up(self, stuck: Collection[Future[Made]]) -> None:
        """Kill all workers: which of them has the run is not known."""
        self._kill()

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [child.pid for child in active_children() if child.pid is not None]

    def close(self) -> None:
        """Kill the workers, whose labs die with them, and remove their folders."""
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _make(self) -> ProcessPoolExecutor:
        # Spawned: a process that forks with threads running may hang, and the terminal's view has one.
        return ProcessPoolExecutor(
            self.width, get_context("spawn"), initializer=_begin_worker, initargs=(os.getpid(), self._scratch)
        )

    def _kill(self) -> None:
        """Kill the workers, also one that has just been started: the executor may wait for it without end."""
        for child in active_children():  # this process has no others
            child.kill()

    def _end(self) -> None:
        self._kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for path in self._scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)


def _begin_worker(parent: int, scratch: Path) -> None:
    """Make a worker that dies with its parent, leaves Ctrl-C to it, and works in its folder."""
    if sys.platform == "linux":  # elsewhere a worker outlives a parent that is killed until its run has ended
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = str(scratch)
