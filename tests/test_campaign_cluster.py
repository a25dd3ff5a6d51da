"""Comparisons on a Dask cluster: a real scheduler and two worker processes on loopback."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from campaign_rig import Quiet, comparison, results

from jepsen_blk.campaign.cluster import ClusterPool
from jepsen_blk.campaign.pools import ProcessPool
from jepsen_blk.campaign.session import compare
from jepsen_blk.errors import UserError

pytest.importorskip("distributed")
ROOT = Path(__file__).parent.parent
START_S = 60


@dataclass
class Cluster:
    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler on a free port, and two workers without a nanny: nobody starts them again."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *argv: str) -> Path:
        log = tmp_path / f"{name}.log"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as output:
            command = [sys.executable, "-m", "distributed.cli." + argv[0], *argv[1:]]
            started.append(subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=tmp_path))
        return log

    def wait_for(log: Path, pattern: str) -> str:
        deadline = time.monotonic() + START_S
        while not (found := re.search(pattern, log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return found[1]

    try:
        log = start("scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = wait_for(log, r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)")
        logs = [
            start(
                f"worker-{number}",
                *("dask_worker", address, "--no-nanny", "--no-dashboard", "--nthreads", "1"),
                *("--host", "127.0.0.1", "--local-directory", str(tmp_path / f"scratch-{number}")),
            )
            for number in (1, 2)
        ]
        for log in logs:
            wait_for(log, r"(Registered to:\s+tcp)")
        yield Cluster(address, started[1:])
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_a_worker_killed_in_the_middle_loses_no_run_and_results_are_those_of_this_machine(
    tmp_path: Path, cluster: Cluster
) -> None:
    here, there = comparison(tmp_path / "here"), comparison(tmp_path / "there")
    local = compare(here, lambda: ProcessPool(1), Quiet())

    def kill_one(rows: int) -> None:
        if rows == 3:
            os.kill(cluster.workers[0].pid, signal.SIGKILL)

    show = Quiet(kill_one)
    distributed = compare(there, lambda: ClusterPool(cluster.address, real=False), show)
    assert cluster.workers[0].wait(START_S) == -signal.SIGKILL
    assert results(there.folder) == results(here.folder)
    assert [row.error for row in show.rows] == [""] * (5 + 6)
    assert [(s.judgement, s.decided, s.failed, s.cost) for s in distributed] == [
        (s.judgement, s.decided, s.failed, s.cost) for s in local
    ]
    assert [s.judgement for s in distributed] == ["unsafe", "safe"]
    assert (there.folder / distributed[0].failing / "results.json").is_file()


def test_real_guests_need_a_worker_that_declares_a_lab(cluster: Cluster) -> None:
    with pytest.raises(UserError, match=r"no worker declares the resource 'lab'.*--resources lab=1"):
        ClusterPool(cluster.address, real=True)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepsen_blk.campaign.cluster._CONNECT_S", 0.5)
    with pytest.raises(UserError, match=r"--cluster tcp://127.0.0.1:1: no scheduler answers there"):
        ClusterPool("tcp://127.0.0.1:1", real=False)
