"""The verdict of a run, from what lies on disk and nothing else.

The controller and `jepsen-blk check RUN` call the same function, so a run whose controller was killed is
judged by the same rules as one that ended in order. The history alone can make a run fail; what the faults,
the migrations and the harness did can only make a pass `unknown`, never a fail a pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.blackout import Blackouts
from jepsen_blk.capacity import Capacity, Checked, Say, check_stored, silent
from jepsen_blk.checker.blame import explain
from jepsen_blk.checker.tally import Tally
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.events import Event, fenced_boots, read_events
from jepsen_blk.history.formats import RUN_JOURNAL
from jepsen_blk.spec import Spec, load_stored_spec
from nemesis.fault import CUT_OFF

JOURNAL = "history.blk"
EVENTS = "events.jsonl"
TARGET_LOG = "target.jsonl"
SPEC = "spec.toml"
RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class FaultResult:
    """How a fault went, and the number of the one that it came during, or 0."""

    number: int
    during: int
    name: str
    proven: bool
    healed: bool
    why: str


def judge_run(
    run_dir: Path, deadline: Deadline | None = None, capacity: Capacity | None = None, say: Say = silent
) -> dict[str, Any]:
    """Judge a stored run; returns the object of results.json (see docs/design.md).

    `deadline` overrides the specification's; `capacity` and `say` are those of check_stored. Raises
    HistoryError where the journal is damaged before its end, SpecError where the stored specification cannot
    be read, and as check_stored does.
    """
    spec = load_stored_spec(run_dir / SPEC)
    events = tuple(read_events(run_dir / EVENTS))
    log = run_dir / TARGET_LOG
    blackouts = Blackouts(events, log)
    faults = tuple(_faults(events))
    stopped = next(
        (event for event in events if (event.source, event.phase) == ("schedule", "stopped")), None
    )
    effect = deadline or spec.deadline
    checked = check_stored(run_dir / JOURNAL, RUN_JOURNAL, effect, capacity, say, blackouts.look)
    migrations = blackouts.results()
    results: dict[str, Any] = checked.result.to_json()
    fenced_ns = {boot: event.time_ns for boot, event in fenced_boots(events).items()}
    blames = explain(checked.result.anomalies, log, fenced_ns)
    for blame, shown in zip(blames, results["anomalies"], strict=True):
        if blame:
            shown["blame"] = blame
    doubts = [*_doubts(spec, checked, events), *_migration_doubts(spec, migrations)]
    doubts += _fault_doubts([fault for fault in faults if not (stopped and fault.why == CUT_OFF)])
    if not results["anomalies"]:
        doubts += _unconfirmed(events, stopped, as_run=deadline in (None, spec.deadline))
    results["reasons"] = [*results["reasons"], *doubts]
    if results["verdict"] == "pass" and doubts:
        results["verdict"] = "unknown"
    if stopped:
        results["notes"] = [_how_stopped(spec, stopped.time_ns - events[0].time_ns, len(faults))]
    results["lab"] = spec.lab
    results["migrations"] = migrations
    results["faults"] = [asdict(fault) for fault in faults]
    results["workload"] = _workload(checked.tally)
    results["duration_s"] = round((events[-1].time_ns - events[0].time_ns) / 1e9, 3) if events else 0.0
    return results


def write_results(run_dir: Path, results: dict[str, Any]) -> None:
    """Store the results beside the history."""
    (run_dir / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _doubts(spec: Spec, checked: Checked, events: Sequence[Event]) -> Iterator[str]:
    """What the harness failed to do, so that a pass would prove too little."""
    if checked.doubts:  # a journal raises one only: it was not closed
        yield "the controller ended before the test did; what it had received was checked"
    # A boot that a failover has ended could not end in order.
    lost = sorted(checked.lost_tails - fenced_boots(events).keys())
    if lost:
        boots = ", ".join(str(boot) for boot in lost)
        yield f"the last operations of boot {boots} may be missing: its stream did not end in order"
    for event in events:
        if event.source == "test" and event.phase == "failed":
            yield f"the harness failed: {event.data.get('why', event.name)}"
        if event.source == "test" and event.phase == "doubt":
            yield str(event.data.get("why", event.name))
    if (spec.nemesis or spec.schedule) and not any(event.source == "schedule" for event in events):
        yield "the schedule of faults was not played to its end"


def _unconfirmed(events: Sequence[Event], stopped: Event | None, *, as_run: bool) -> Iterator[str]:
    """What was seen while the test ran and is no anomaly now; `as_run`: under the same deadline."""
    found = (event for event in events if (event.source, event.phase) == ("checker", "seen"))
    seen = next((event.data["why"] for event in found), None)
    if seen and (as_run or stopped):
        ended = ", and ended the schedule there" if stopped else ""
        yield f"the check of the running test saw an anomaly ({seen}){ended}; as judged here there is none"


def _how_stopped(spec: Spec, after_ns: int, begun: int) -> str:
    after = f"stopped at the first anomaly, {after_ns / 1e9:.1f} s after the test began"
    if spec.schedule:
        return f"{after}; {begun} faults had begun"
    planned = sum(step.repeat for step in spec.nemesis)
    return f"{after}; {begun} of {planned} faults had begun" if planned else after


def _fault_doubts(faults: Sequence[FaultResult]) -> Iterator[str]:
    for fault in faults:
        if not fault.proven:
            yield f"fault {fault.name} was not proven: {fault.why}"
        elif not fault.healed:
            yield f"fault {fault.name} was not healed: {fault.why}"
        elif fault.why:
            yield f"fault {fault.name} did not go as planned: {fault.why}"


def _migration_doubts(spec: Spec, migrations: Sequence[dict[str, Any]]) -> Iterator[str]:
    if spec.allow_idle_migration:
        return
    for number, migration in enumerate(migrations, start=1):
        if not migration["in_flight"]:
            way = f"{migration['source']} -> {migration['destination']}"
            yield f"migration {number} ({way}) had no write in flight, so it tested nothing"


def _faults(events: Sequence[Event]) -> Iterator[FaultResult]:
    """One result a fault, in the order in which they began: each with its setup, unless it was left out."""
    of_faults = [event for event in events if event.source == "fault"]
    over = {event.number: event.data for event in of_faults if event.phase == "over"}
    cut_off = {"proven": False, "healed": False, "why": CUT_OFF}
    for event in of_faults:
        if event.phase == "setup":
            data = over.get(event.number, cut_off)
            if data.get("left_out") and data["healed"]:
                continue
            yield FaultResult(
                event.number,
                int(event.data.get("during", 0)),
                event.name,
                bool(data["proven"]),
                bool(data["healed"]),
                str(data["why"]),
            )


def _workload(tally: Tally) -> dict[str, Any]:
    span_ns = tally.last_ns - tally.first_ns
    return {
        "reads": tally.reads,
        "writes": tally.writes,
        "info": tally.info,
        "ops_per_s": round(tally.done / (span_ns / 1e9), 1) if span_ns > 0 else 0.0,
    }
