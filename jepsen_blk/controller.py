"""The life of one test, readable top to bottom.

    specification checked -> lab prepared -> run directory -> lab up, guest says hello
      workload runs while the schedule of faults is played and the journal is checked
    -> everything healed -> quiesce -> read every block -> lab down
    -> judged from what lies on disk -> report

Whatever happens on the way, the faults are healed, the lab is taken down and the journal is closed; what
was recorded until then can be judged, and what went wrong is a reason for `unknown`, never for a pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.errors import LabError, UserError
from jepsen_blk.history.events import EventLog
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.judge import EVENTS, JOURNAL, SPEC, judge_run, write_results
from jepsen_blk.lab.choose import prepare_lab
from jepsen_blk.lab.seams import Lab, PreparedLab
from jepsen_blk.live import checking
from jepsen_blk.replay import Repeated
from jepsen_blk.report.html import render_report
from jepsen_blk.report.view import NullView, View
from jepsen_blk.spec import Spec, dump_spec
from jepsen_blk.store import new_run
from nemesis.catalogue import make_fault
from nemesis.demands import demands_of
from nemesis.fault import Stage
from nemesis.plan import Plan, write_plan
from nemesis.play import play
from nemesis.schedule import make_plan
from workloads.guest import GuestLink
from workloads.source import SentWorkload, sent_workload

_HELLO_TIMEOUT_S = 20.0
_QUIESCE_TIMEOUT_S = 10.0
_READ_ALL_TIMEOUT_S = 60.0
_BYE_TIMEOUT_S = 10.0
_COUNT_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test ended with; `results` is the object of results.json."""

    verdict: str
    results: dict[str, Any]
    run_dir: Path


async def run_test(
    spec: Spec,
    store: Path,
    *,
    repeated: Repeated | None = None,
    keep_lab: bool = False,
    report: bool = True,
    view: View | None = None,
) -> Outcome:
    """Run one test and judge it.

    `repeated` has the plan of an earlier run, played instead of what `spec` would draw. `keep_lab` leaves the
    lab up after the verdict until the task is cancelled; without `report` no page is written. Raises
    SpecError for a fault that does not exist or that the storage does not offer, and for a schedule that does
    not fit, UserError for what the machine lacks or a package brings that is broken, LabError when the lab
    cannot be had; once the guest runs, trouble is part of the outcome.
    """
    view = view or NullView()
    plan = repeated.plan if repeated else make_plan(spec)
    sent = sent_workload(spec.workload)
    view.phase("preparing the guest")
    prepared = await prepare_lab(spec)
    await refuse_unoffered(plan, prepared)
    run_dir = new_run(store, spec.name)
    (run_dir / SPEC).write_text(dump_spec(spec), encoding="utf-8")
    write_plan(run_dir, plan)
    environment = prepared.environment | ({"repeats": str(repeated.run_dir)} if repeated else {})
    (run_dir / "environment.json").write_text(json.dumps(environment, indent=1) + "\n", "utf-8")
    events = EventLog(run_dir / EVENTS, view.event)
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.callback(events.close)
        events.emit("test", spec.name, "begin")
        kept = await _record(spec, prepared, plan, sent, run_dir, events, view, cleanup if keep_lab else None)
        outcome = _judge(run_dir, view, report)
        view.finish(outcome.verdict)
        if kept is not None:
            view.phase(f"verdict {outcome.verdict}; the lab is kept until Ctrl-C: {kept.how_to_enter()}")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    return outcome


async def refuse_unoffered(plan: Plan, prepared: PreparedLab) -> None:
    """Raise UserError for the first fault that the lab cannot do, before anything runs."""
    faults = [make_fault(dated.step.fault, dated.step.options) for dated in plan.dated]
    for wanted, name in demands_of(faults).items():
        reason = await prepared.why_not(wanted)
        if reason:
            raise UserError(f"nemesis {name}: this lab cannot do it: {reason}")


async def _record(
    spec: Spec,
    prepared: PreparedLab,
    plan: Plan,
    sent: SentWorkload | None,
    run_dir: Path,
    events: EventLog,
    view: View,
    keep_in: contextlib.AsyncExitStack | None,
) -> Lab | None:
    """Bring the lab up, run the workload under the schedule, take it down; return the lab if it is kept."""
    run = prepared.new_run()
    journal = JournalWriter(run_dir / JOURNAL)
    journal.note({"note": "open", "run": run, "spec": spec.name})
    guest = GuestLink(journal, sent=sent)
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(guest.close)
            view.phase("bringing the lab up")
            lab = await prepared.up(run_dir, guest)
            (keep_in or stack).push_async_callback(lab.down)
            try:
                await guest.hello(_HELLO_TIMEOUT_S)
                await guest.reset(boot=0, run=run, seed=spec.seed)
                async with checking(spec, run_dir / JOURNAL, events, view) as anomaly:
                    end = anomaly if spec.stop_on_fail else asyncio.Event()  # which never comes
                    await _exercise(spec, lab, guest, plan, end, events, view)
            except LabError as error:
                events.emit("test", spec.name, "failed", why=str(error))
                await _look_at_storage(spec, lab, events)
            for why in guest.split_brain:
                events.emit("test", spec.name, "doubt", why=why)
            view.phase("taking the lab down")
        events.emit("test", spec.name, "end")
    except BaseException as error:
        events.emit("test", spec.name, "failed", why=str(error) or "interrupted")
        raise
    finally:
        journal.close()
    return lab if keep_in else None


async def _look_at_storage(spec: Spec, lab: Lab, events: EventLog) -> None:
    """Say so if the storage is gone: a guest that does nothing any more is what comes of it."""
    try:
        await lab.storage.stats()
    except LabError as error:
        events.emit("test", spec.name, "failed", why=str(error))


async def _exercise(
    spec: Spec,
    lab: Lab,
    guest: GuestLink,
    plan: Plan,
    end: asyncio.Event,
    events: EventLog,
    view: View,
) -> None:
    """Run the workload while the schedule is played, until `end` at most, then read every block."""
    workload = spec.workload.model_dump(mode="json")
    here, there = lab.guest_nodes
    stage = Stage(
        lab=lab,
        guest=guest,
        events=events,
        handoff=spec.handoff,
        workload=workload,
        operations=lambda: guest.operations,
        guest_node=here,
        other_node=there,
    )
    view.phase("running the workload")
    events.emit("workload", spec.workload.name, "begin", node=here)
    await guest.run(workload)
    async with _counting(guest, view):
        await play(plan, stage, end, spec.name, spec.time_limit_s)
        view.phase("reading every block")
        if not await guest.quiesce(_QUIESCE_TIMEOUT_S):
            left = await guest.abandon()
            events.emit("test", spec.name, "doubt", why=f"{left} operations never completed")
        events.emit("workload", spec.workload.name, "quiesced", node=stage.guest_node)
        await guest.read_all(_READ_ALL_TIMEOUT_S)
        events.emit("workload", "read-all", "done", node=stage.guest_node)
    await guest.bye(_BYE_TIMEOUT_S)


@contextlib.asynccontextmanager
async def _counting(guest: GuestLink, view: View) -> AsyncIterator[None]:
    """Show the number of operations while the block runs."""

    async def count() -> None:
        while True:
            view.operations(guest.operations)
            await asyncio.sleep(_COUNT_EVERY_S)

    counter = asyncio.create_task(count())
    try:
        yield
    finally:
        counter.cancel()
        view.operations(guest.operations)


def _judge(run_dir: Path, view: View, report: bool) -> Outcome:
    view.phase("checking the history")
    results = judge_run(run_dir)
    write_results(run_dir, results)
    if report:
        view.phase("writing the report")
        render_report(run_dir)
    return Outcome(str(results["verdict"]), results, run_dir)
