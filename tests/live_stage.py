"""A lab with a working guest that several tests' faults act on, one after the other.

Each leaves the guest working, which is what a healed fault means.
"""

import asyncio
import contextlib
import gc
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from jepsen_blk.history.events import Event, EventLog, read_events
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.lab.local.lab import LocalLab, PreparedLocalLab, prepare_local_lab
from jepsen_blk.spec import make_spec
from nemesis.catalogue import make_fault
from nemesis.fault import Fault, Stage, run_fault
from workloads.guest import GuestLink


class LiveStage:
    """The lab and its stage; everything runs in one event loop, which stands still between the calls."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder = folder
        self._spec = make_spec(spec)
        self._runner = asyncio.Runner()
        self._journal = JournalWriter(folder / "history.blk")
        self.prepared: PreparedLocalLab
        self.lab: LocalLab
        self.stage: Stage
        self.events: list[Event] = []

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(work)

    def play(self, fault: Fault) -> list[Event]:
        """Take a fault through its life and return what its own events say."""
        log = self.folder / "events.jsonl"
        before = len(list(read_events(log)))
        self.do(run_fault(fault, self.stage))
        self.events = [event for event in list(read_events(log))[before:] if event.source == "fault"]
        return self.events

    def outcome(self, name: str, **options: Any) -> dict[str, Any]:
        """Play a fault of the catalogue and return what its last event says."""
        *_, over = self.play(make_fault(name, options))
        assert over.phase == "over"
        return over.data

    def proof(self, phase: str = "proven") -> str:
        """What the last fault's proof says."""
        (event,) = (event for event in self.events if event.phase == phase)
        return str(event.data["proof"])

    def up(self) -> None:
        self.do(self._up())

    async def _up(self) -> None:
        spec = self._spec
        guest = GuestLink(self._journal)
        self.prepared = await prepare_local_lab(spec)
        (self.folder / "logs").mkdir()
        self.lab = await self.prepared.up(self.folder, guest)
        await guest.hello(20)
        await guest.reset(boot=0, run=1, seed=1)
        workload = spec.workload.model_dump(mode="json")
        await guest.run(workload)
        here, there = self.lab.guest_nodes
        self.stage = Stage(
            lab=self.lab,
            guest=guest,
            events=EventLog(self.folder / "events.jsonl"),
            handoff=spec.handoff,
            workload=workload,
            operations=lambda: guest.operations,
            guest_node=here,
            other_node=there,
        )

    def down(self) -> None:
        async def close() -> None:
            await self.stage.guest.close()
            await self.lab.down()

        self.do(close())
        self._runner.close()
        self.stage.events.close()
        self._journal.close()
        gc.collect()  # a QEMU that ended by itself is complained of when collected: here, not in a later test


GOOD = {"proven": True, "healed": True, "why": ""}
"""The outcome of a fault that went as it should."""


@contextlib.contextmanager
def live_stage(folder: Path, spec: dict[str, Any] | None = None) -> Iterator[LiveStage]:
    """A lab that is up while the block runs; `spec` without faults, they come from the tests."""
    light = {"workload": {"queue_depth": 4}, "storage": {"write_latency_ms": 5}}
    live = LiveStage(folder, light if spec is None else spec)
    live.up()
    try:
        yield live
    finally:
        live.down()
