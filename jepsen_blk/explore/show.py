"""What an exploration found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.explore.case import Case, Frontend, Scope
from jepsen_blk.explore.finding import Finding
from jepsen_blk.explore.script import Script, kinds, told
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel

_SCOPES = {
    Scope.MIGRATION: "two writes to one block, one migration",
    Scope.PATH_LOSS: "two writes to one block, one migration, X's path or connection lost at most once",
    Scope.FAILOVER: "two writes to one block, X cut off or killed, the guest started again on Y",
}
_FRONTENDS = {
    Frontend.BLKFRONT: "blkfront",
    Frontend.QEMU: "QEMU",
    Frontend.QEMU_RECONNECT: "QEMU that reconnects",
}
_LEGEND = (
    ("safe", "in every interleaving"),
    ("wire", "safe if nothing that X has sent is on the wire when the handoff begins"),
    ("UNSAFE", "some interleaving fails"),
    ("before", "some interleaving fails before any handoff: no policy has a say in it"),
)


def print_finding(finding: Finding, script: Script | None, console: Console) -> None:
    """Print one case; `script` is that of its counter-example."""
    case = finding.case
    console.print(
        Text(f"{case.policy.value} on {case.conflict.value} behind {_FRONTENDS[case.frontend]}:", "bold"),
        Text(_SCOPES[case.scope]),
        soft_wrap=True,
    )
    if script is None:
        console.print(Text.assemble((" SAFE ", "bold green"), f"in all {_count(finding)}"), soft_wrap=True)
        return
    found = f"by {', '.join(kinds(script.trace))}; the shortest, {len(finding.path)} events"
    cost = f"of {finding.states} states, {finding.seconds:.1f} s"
    console.print(Text.assemble((" UNSAFE ", "bold red"), f"{found} ({cost}):"), soft_wrap=True)
    for line in told(script.trace):
        console.print(Text(f"   {line}"), soft_wrap=True)
    console.print(Text(_rests_on(finding)), soft_wrap=True)


def print_written(script: Script, path: Path, console: Console) -> None:
    """Say where the choreography is, and how it ended when it was played."""
    by = ", ".join(kinds(script.trace))
    console.print(Text(f"{path}: written; played in the simulator it fails too, by {by}"), soft_wrap=True)


def print_not_written(script: Script, missed: Sequence[str], console: Console) -> None:
    """Say why the counter-example is no choreography."""
    console.print(Text("Not written: no choreography plays it."), soft_wrap=True)
    for why in script.doubts or missed:
        console.print(Text(f"  {why}"), soft_wrap=True)


def print_table(findings: Sequence[Finding], console: Console) -> None:
    """Print a table of policies and conflict models."""
    table = Table(header_style="bold", expand=False, pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("handoff", no_wrap=True)
    for model in ConflictModel:
        table.add_column(model.value.replace("-", "-\n", 1), no_wrap=True)
    cells = {(finding.case.policy, finding.case.conflict): finding for finding in findings}
    for policy in HandoffPolicy:
        table.add_row(policy.value, *(_cell(cells.get((policy, model))) for model in ConflictModel))
    first = findings[0].case
    console.print(Text(f"{_FRONTENDS[first.frontend]}: {_SCOPES[first.scope]}"), soft_wrap=True)
    console.print(table)
    for word, meaning in _LEGEND:
        console.print(Text.assemble(f"{word:<7} ", (meaning, "dim")), soft_wrap=True)
    console.print("The number: interleavings, or events of the shortest counter-example.")


def as_object(finding: Finding, script: Script | None) -> dict[str, Any]:
    """Return one case as JSON shows it."""
    return {
        **_case_object(finding.case),
        "safe": finding.safe,
        "interleavings": finding.interleavings if finding.safe else None,
        "states": finding.states,
        "seconds": round(finding.seconds, 3),
        "before_handoff": finding.before_handoff,
        "safe_if_wire_is_empty": finding.safe or finding.rests_on_wire,
        "counter_example": _example_object(script) if script else None,
    }


def _example_object(script: Script) -> dict[str, Any]:
    trace = script.trace
    return {
        "anomalies": list(kinds(trace)),
        "deadlines": {deadline.value: verdict for deadline, verdict in trace.result.deadlines.items()},
        "events": [event.text for event in trace.events if not event.settling],
        "told": list(told(trace)),
        "damage": trace.damage,
        "steps": list(script.steps),
        "doubts": list(script.doubts),
    }


def _case_object(case: Case) -> dict[str, str]:
    return {
        "conflict": case.conflict.value,
        "frontend": case.frontend.value,
        "handoff": case.policy.value,
        "scope": case.scope.value,
    }


def _rests_on(finding: Finding) -> str:
    if finding.before_handoff:
        return "Some interleavings fail before any handoff: no policy has a say in these."
    if finding.prompt is not None and finding.prompt.safe:
        return (
            "It rests on the wire: if nothing that X has sent is on it when the handoff begins, it is safe "
            f"in all {finding.prompt.interleavings:,} interleavings."
        )
    return "It is unsafe as well if nothing that X has sent is on the wire when the handoff begins."


def _count(finding: Finding) -> str:
    return f"{finding.interleavings:,} interleavings ({finding.states} states, {finding.seconds:.1f} s)"


def _cell(finding: Finding | None) -> Text:
    if finding is None:
        return Text("-")
    if finding.safe:
        return Text(f"safe {finding.interleavings:,}", "green")
    word = "before" if finding.before_handoff else "wire" if finding.rests_on_wire else "UNSAFE"
    return Text(f"{word} {len(finding.path)}", "yellow" if word == "wire" else "bold red")
