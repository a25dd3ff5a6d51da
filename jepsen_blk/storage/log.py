"""The storage's own log, `target.jsonl`: it explains a verdict, it never makes one.

Thousands of writes a second are logged by the process that serves them, so a line of a write is
only queued where it happens; a thread formats and writes what has gathered every 50 ms. Events
that explain a fault (held, released, fence, connect) are on disk when `event` returns, with all
lines before them.

A server that is started again appends to the log of the one before. Writes are known by their ids, so it
counts on from there.

Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

_INTERVAL_S = 0.05
_TAIL_BYTES = 1 << 20
"""What holds the greatest id for certain: some 5000 lines, and no server has so many writes in flight."""
_ID = re.compile(rb'^\{"f":"(?:write|held)","id":(\d+),', re.MULTILINE)


class WriteLine(NamedTuple):
    """One ended write; times are ns of CLOCK_MONOTONIC, `applied_ns` None if it was not applied."""

    id: int
    node: str
    block: int
    value: int
    process: int
    received_ns: int
    applied_ns: int | None
    done_ns: int
    action: str
    outcome: str
    why: str


class TargetLog:
    """Appends to the file at `path`; `start` belongs into the process that logs, after any fork.

    `last_id` is the greatest id of a write that the file had when it was opened, 0 without one.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        tail = _tail(path)
        self.last_id = max(map(int, _ID.findall(tail)), default=0)
        if tail and not tail.endswith(b"\n"):
            self._file.write("\n")  # the server before was killed while it wrote
        self._queue: deque[WriteLine] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.write = self._queue.append
        """Queue the line of an ended write."""

    def start(self) -> None:
        """Start the thread that writes what was queued."""
        self._thread = threading.Thread(target=self._run, name="target-log", daemon=True)
        self._thread.start()

    def event(self, kind: str, **fields: Any) -> None:
        """Write an event at once, after all lines queued before it."""
        with self._lock:
            self._drain()
            self._file.write(json.dumps({"f": kind, **fields}, separators=(",", ":")) + "\n")
            self._file.flush()

    def flush(self) -> None:
        """Write what is queued."""
        with self._lock:
            self._drain()
            self._file.flush()

    def close(self) -> None:
        """Write what is queued, stop the thread and close the file."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        self._file.close()

    def _run(self) -> None:
        while not self._closing.wait(_INTERVAL_S):
            if self._queue:
                self.flush()

    def _drain(self) -> None:
        queue = self._queue
        lines = []
        while queue:
            lines.append(_format(queue.popleft()))
        if lines:
            self._file.write("".join(lines))


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read()


def _format(line: WriteLine) -> str:
    # Written out by hand: json.dumps of a dict takes four times as long, in the process under load.
    applied = "null" if line.applied_ns is None else line.applied_ns
    return (
        f'{{"f":"write","id":{line.id},"node":{json.dumps(line.node)},"block":{line.block},'
        f'"value":{line.value},"process":{line.process},"received":{line.received_ns},"applied":{applied},'
        f'"done":{line.done_ns},"action":"{line.action}","outcome":"{line.outcome}",'
        f'"why":{json.dumps(line.why) if line.why else chr(34) * 2}}}\n'
    )
