"""SIGKILL of the controller at any moment: nothing remains, and what was recorded can be judged."""

import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest

from jepsen_blk.history.journal import read_journal
from jepsen_blk.judge import judge_run

pytestmark = pytest.mark.lab

MARK = "JEPSEN_BLK_TEST_MARK"
SPEC = """
name = "killed"
storage = { conflict = "ignore-second" }
[[nemesis]]
fault = "lost-path-migration"
[[nemesis]]
fault = "migrate"
repeat = 20
"""


def marked(mark: str) -> list[int]:
    """Processes that inherited the mark in their environment: those of one controller's lab."""
    found = []
    for pid in everyone():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment:
            found.append(pid)
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


@pytest.mark.parametrize("seed", range(20))
def test_sigkill_at_any_moment_leaves_nothing_behind_and_the_journal_opens(seed: int, tmp_path: Path) -> None:
    moment_s = random.Random(seed).uniform(0.3, 5.0)
    mark = uuid.uuid4().hex
    spec, store = tmp_path / "spec.toml", tmp_path / "store"
    spec.write_text(SPEC)
    mounts = Path("/proc/self/mountinfo").read_text()
    controller = subprocess.Popen(
        [sys.executable, "-m", "jepsen_blk", "test", str(spec), "--store", str(store)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        controller.wait(moment_s)
        pytest.fail("the controller ended by itself before it was killed")
    except subprocess.TimeoutExpired:
        lab = namespaces(marked(mark))
        controller.send_signal(signal.SIGKILL)
        controller.wait(10)
    assert wait_gone(mark, lab) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    for journal in store.glob("killed/*/history.blk"):
        opened = read_journal(journal)
        assert not opened.closed
        results = judge_run(journal.parent)
        assert results["ops"] == len(opened.history)
        assert results["verdict"] in ("unknown", "fail")
