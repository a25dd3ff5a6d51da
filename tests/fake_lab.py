"""A lab without a hypervisor, for the controller: its guest is a puppet that reports what a test says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from histories import Op
from puppet import Puppet

from jepsen_blk.history.record import ROW
from jepsen_blk.lab.seams import GuestStream
from nemesis.testing.lab import ScriptedLab


def packed(operations: Sequence[Op]) -> bytes:
    """Return operations as the agent sends them."""
    rows = np.zeros(len(operations), ROW)
    for row, op in zip(rows, operations, strict=True):
        row["f"], row["outcome"], row["process"], row["block"] = op.f, op.outcome, op.process, op.block
        row["value"], row["start"], row["finish"] = op.value, op.start, op.finish
    return rows.tobytes()


class FakeLab:
    """Implements lab.seams.Lab as far as the controller and these tests' faults need it."""

    guest_nodes = ("x", "y")

    def __init__(self, puppet: Puppet, first: Sequence[Op]) -> None:
        self.hypervisor = ScriptedLab().hypervisor
        self._puppet = puppet
        self._first = first
        self._frames = 0
        puppet.answer = self._answer

    def send(self, *operations: Op) -> None:
        """Have the guest report these operations."""
        self._frames += 1
        self._puppet.send_rows(self._frames, packed(operations))

    async def down(self) -> None:
        self._puppet.close()

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "run" and self._first:
            self.send(*self._first)
        return {"sequence": self._frames, "quiet": True, "count": 0}


class PreparedFakeLab:
    """Implements lab.seams.PreparedLab; the guest reports `first` when the workload begins."""

    def __init__(self, folder: Path, first: Sequence[Op]) -> None:
        self.environment: dict[str, str] = {}
        self._socket = folder / "x"
        self._first = first

    def new_run(self) -> int:
        return 1

    async def up(self, run_dir: Path, stream: GuestStream) -> FakeLab:
        puppet = Puppet(self._socket)
        await stream.listen("x", self._socket)
        await puppet.connect()
        return FakeLab(puppet, self._first)
