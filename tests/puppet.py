"""A guest without an agent, at the other end of the host's link: it says what the test wants it to say."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.history.record import ROW, F
from workloads.agent.frames import JSON, ROWS, pack_frame


class Puppet:
    """A guest without an agent: answers every command at once and sends what the test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._task: asyncio.Task[None]
        self.acked: dict[str, Any] = {}
        self.acks = asyncio.Event()
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda command: {}

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        self._task = asyncio.create_task(self._serve())

    def send(self, sequence: int, marker: int) -> None:
        row = np.zeros(1, dtype=ROW)
        row["f"], row["value"] = F.WRITE, marker
        self.send_rows(sequence, row.tobytes())

    def send_rows(self, sequence: int, rows: bytes) -> None:
        self._writer.write(pack_frame(ROWS, sequence, rows))

    def close(self) -> None:
        self._task.cancel()
        self._writer.transport.abort()

    async def _serve(self) -> None:
        while line := await self._reader.readline():
            if not line.strip():
                continue
            command = json.loads(line)
            if command["do"] == "ack":
                self.acked = command
                self.acks.set()
                continue
            reply = {"re": command["id"], "sequence": 0, "time": 0, **self.answer(command)}
            self._writer.write(pack_frame(JSON, 0, json.dumps(reply).encode()))
