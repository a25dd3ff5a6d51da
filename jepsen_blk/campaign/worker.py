"""One run of a comparison, wherever it is made: from a specification to a row, and its folder.

This is what a worker process calls, on this machine or another one: it takes and returns what can be sent,
and raises nothing that a run can cause. A cell whose lab does not start is a row that says so.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.campaign.rows import Cell, Row
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import LabError
from jepsen_blk.history.events import read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import F
from jepsen_blk.history.record import Outcome as Ended
from jepsen_blk.judge import EVENTS, JOURNAL
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.spec import Spec, Verdict


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be made; its folder is sent along if it ends with one of the verdicts in `keep`."""

    cell: Cell
    spec: Spec
    digest: str
    keep: frozenset[Verdict]
    limit_s: float


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a run; `archive` is its folder as a compressed tar, empty if it is not kept."""

    row: Row
    archive: bytes = b""


def make_run(job: Job) -> Made:
    """Make a run in a folder that is gone afterwards."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="run.") as store:
        try:
            outcome = _run(job, Path(store))
            row = _row(job, outcome, time.monotonic() - began)
            return Made(row, _pack(outcome.run_dir) if row.verdict in job.keep else b"")
        except Exception as error:  # whatever it is, it is this run's, and the others go on
            return Made(failed_row(job, f"{type(error).__name__}: {error}", time.monotonic() - began))


def failed_row(job: Job, why: str, seconds: float) -> Row:
    """Return the row of a run of which no verdict could be had."""
    return Row(
        cell=job.cell,
        seed=job.spec.seed,
        spec=job.digest,
        verdict="unknown",
        anomalies={},
        reasons=(),
        ops=0,
        indeterminate=0,
        migrations=0,
        in_flight=0,
        reissues=0,
        blackouts_ms=(),
        latencies_ms=None,
        ops_per_s=0.0,
        seconds=round(seconds, 3),
        error=" ".join(why.split()),
    )


def _run(job: Job, store: Path) -> Outcome:
    """Run the test; in real time it is ended in order at its limit, with all healed and the lab down."""
    test = run_test(job.spec, store, report=False)
    if job.spec.lab == "sim":  # its own clock would say nothing; who waits for it has a limit too
        return run_in_time_of(job.spec, test)
    return run_in_time_of(job.spec, _limited(test, job.limit_s))


async def _limited(test: Any, limit_s: float) -> Outcome:
    try:
        async with asyncio.timeout(limit_s):
            outcome: Outcome = await test
            return outcome
    except TimeoutError as error:
        raise LabError(f"the run took longer than run_limit_s = {limit_s:g} s") from error


def _row(job: Job, outcome: Outcome, seconds: float) -> Row:
    results = outcome.results
    migrations = results["migrations"]
    return Row(
        cell=job.cell,
        seed=job.spec.seed,
        spec=job.digest,
        verdict=results["verdict"],
        anomalies=dict(Counter(anomaly["kind"] for anomaly in results["anomalies"])),
        reasons=tuple(results["reasons"]),
        ops=results["ops"],
        indeterminate=results["workload"]["info"],
        migrations=len(migrations),
        in_flight=sum(move["in_flight"] for move in migrations),
        reissues=sum(move["reissued"] for move in migrations),
        blackouts_ms=tuple(move["stall_ms"] for move in migrations if move["stall_ms"] is not None),
        latencies_ms=_latencies_ms(outcome.run_dir),
        ops_per_s=_ops_per_s(outcome.run_dir, results["ops"]),
        seconds=round(seconds, 3),
    )


def _latencies_ms(run_dir: Path) -> tuple[float, float] | None:
    """Return the 50th and 99th percentile of the writes that were acknowledged."""
    history = read_journal(run_dir / JOURNAL).history
    acked = (history.f == F.WRITE) & (history.outcome == Ended.OK)
    if not acked.any():
        return None
    p50, p99 = np.percentile(history.finish[acked] - history.start[acked], (50, 99)) / 1e6
    return round(float(p50), 3), round(float(p99), 3)


def _ops_per_s(run_dir: Path, ops: int) -> float:
    """Return the throughput by the host's clock: the guest's stands still while a policy keeps it stopped."""
    moments = [event.time_ns for event in read_events(run_dir / EVENTS) if event.source == "workload"]
    span_ns = max(moments) - min(moments) if moments else 0
    return round(ops / (span_ns / 1e9), 1) if span_ns else 0.0


def _pack(run_dir: Path) -> bytes:
    """Pack the folder; the comparison's report adds that of the run."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(run_dir, arcname=".")
    return packed.getvalue()
