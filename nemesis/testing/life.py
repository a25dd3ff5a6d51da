"""The life of a fault on the scripted lab, in virtual time; the lab may be made to only claim what it did."""

from __future__ import annotations

import difflib
import inspect
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk import virtual_time
from jepsen_blk.history.events import Event, EventLog, read_events
from jepsen_blk.spec import HandoffSpec
from nemesis.fault import Fault, Stage, run_fault
from nemesis.testing.lab import ScriptedLab

_SEAMS = ("network", "hypervisor", "storage", "storage_servers", "guest")
_WORKLOAD = {"name": "scripted", "blocks": 256, "hot_blocks": 8, "queue_depth": 16}


@dataclass(frozen=True, slots=True)
class Life:
    """How a fault went; `proof` and `healing` are what it said it saw, `why` what went wrong, if anything."""

    proven: bool
    healed: bool
    why: str
    proof: str
    healing: str
    events: tuple[Event, ...]


def live(fault: Fault, lab: ScriptedLab | None = None, *, without: Iterable[str] = ()) -> Life:
    """Take a fault through its life on a scripted lab and return how it went.

    The calls named in `without`, such as "network.cut", are acknowledged and not done: a fault that is
    proven nonetheless has proven nothing. Raises ValueError for a name that is no call of a lab.
    """
    lab = lab or ScriptedLab()
    for name in without:
        _sabotage(lab, name)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events.jsonl"
        stage = stage_on(lab, log)
        try:
            virtual_time.run(run_fault(fault, stage))
        finally:
            stage.events.close()
        events = tuple(read_events(log))
    over = _said(events, "over")
    proof, healing = (str(_said(events, phase).get("proof", "")) for phase in ("proven", "healed"))
    return Life(over["proven"], over["healed"], over["why"], proof, healing, events)


def stage_on(lab: ScriptedLab, log: Path) -> Stage:
    """Return what a fault acts on, with the lab's guest at work on x, and its events in a file `log`.

    Whoever makes it closes its `events`.
    """
    here, there = lab.guest_nodes
    return Stage(
        lab=lab,
        guest=lab.guest,
        events=EventLog(log),
        handoff=HandoffSpec(),
        workload=dict(_WORKLOAD),
        operations=lambda: lab.guest.operations,
        guest_node=here,
        other_node=there,
    )


def _said(events: Iterable[Event], phase: str) -> dict[str, Any]:
    """What the fault's event of that phase has to say; nothing if there was none."""
    return next((event.data for event in events if (event.source, event.phase) == ("fault", phase)), {})


async def _nothing(*_args: Any, **_options: Any) -> int:
    """In the place of a call that is to be acknowledged only."""
    return 0


def _sabotage(lab: ScriptedLab, name: str) -> None:
    calls = _calls(lab)
    if name not in calls:
        close = difflib.get_close_matches(name, calls, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "one is named as in 'network.cut'"
        raise ValueError(f"no call {name!r} of a lab; {hint}")
    owner, method = calls[name]
    setattr(owner, method, _nothing)


def _calls(lab: ScriptedLab) -> dict[str, tuple[object, str]]:
    owners = {"": lab, **{f"{seam}.": getattr(lab, seam) for seam in _SEAMS}}
    return {
        prefix + method: (owner, method)
        for prefix, owner in owners.items()
        for method, _ in inspect.getmembers(type(owner), inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
