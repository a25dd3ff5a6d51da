"""Who did it: the copies of the two writes at odds, as the storage's own log tells them.

The log explains, it never judges: a missing, torn or silent log only means that no culprit is named.
Its times are all on the host's clock, so they are compared with each other only, never with the guest's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepsen_blk.checker.anomalies import Anomaly
from jepsen_blk.checker.wording import show_ms
from jepsen_blk.stamp import SEQUENCE_BITS

_HELD_NS = 100_000_000
"""A write that took longer than this is called held even where the log has no hold of it."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One arrival of a write at the storage; times in ns of the host, `applied` None if it never was."""

    node: str
    applied: int | None
    done: int
    outcome: str
    held_ns: int

    @property
    def ignored(self) -> bool:
        """Completed without having been applied: the guest was told, the block was not."""
        return self.outcome == "ok" and self.applied is None


def explain(
    anomalies: Sequence[Anomaly], target_log_path: Path, fenced_ns: Mapping[int, int]
) -> list[str | None]:
    """Name of each anomaly the copy of a write that did the damage, None where the log does not show it.

    `fenced_ns` says of each boot that was fenced off when that was, in ns of the host. The log is read once.
    """
    wanted = {value for anomaly in anomalies for value in _values(anomaly)}
    copies = _copies(target_log_path, wanted) if wanted else {}
    return [_explain(anomaly, copies, fenced_ns) for anomaly in anomalies]


def _values(anomaly: Anomaly) -> list[int]:
    return [value for value in (anomaly.older, anomaly.newer) if value]


def _explain(anomaly: Anomaly, known: Mapping[int, list[_Copy]], fenced_ns: Mapping[int, int]) -> str | None:
    if anomaly.older is None and anomaly.newer is None:
        return None
    copies = {value: known[value] for value in _values(anomaly) if value in known}
    older = copies.get(anomaly.older or 0, [])
    if anomaly.newer is None:
        return _misplaced(anomaly, older)
    newer = copies.get(anomaly.newer, [])
    acked = min((copy.done for copy in newer if copy.outcome == "ok"), default=None)
    late = _late(anomaly.older, older, acked, f"write {anomaly.newer} had been acknowledged")
    if anomaly.kind == "fenced-zombie" and not late:
        for value, own in copies.items():
            late += _late(value, own, fenced_ns.get(value >> SEQUENCE_BITS), "its guest had been fenced off")
    ignored = _ignored(anomaly, older, newer) if acked is not None else ()
    return "; ".join((*late, *ignored)) or None


def _late(value: int | None, copies: list[_Copy], since: int | None, event: str) -> list[str]:
    """Name the copy of a write that was applied last, if that was after the event, which was at `since`."""
    if since is None:
        return []
    late = [copy for copy in copies if copy.applied is not None and copy.applied > since]
    if not late:
        return []
    copy = max(late, key=lambda copy: copy.applied or 0)
    held = f", held {_show_ns(copy.held_ns)}," if copy.held_ns else ""
    after = _show_ns((copy.applied or 0) - since)
    return [f"write {value} of {_node(copy)}{held} was applied {after} after {event}"]


def _ignored(anomaly: Anomaly, older: list[_Copy], newer: list[_Copy]) -> Iterator[str]:
    first = older[0].node if older else ""
    for copy in older:
        if copy.ignored:
            again = (
                f"the re-issue of {anomaly.older} from" if copy.node != first else f"write {anomaly.older} of"
            )
            yield f"{again} {_node(copy)} was ignored and completed"
    for copy in newer:
        if copy.ignored:
            yield f"write {anomaly.newer} of {_node(copy)} was ignored and completed"


def _misplaced(anomaly: Anomaly, copies: list[_Copy]) -> str | None:
    """Say how the one write of a bad read ended at the storage."""
    applied = [copy for copy in copies if copy.applied is not None]
    if anomaly.kind != "aborted-read" or not applied:
        return None
    copy = applied[-1]
    return f"write {anomaly.older} of {_node(copy)} was applied although its guest was told that it failed"


def _copies(path: Path, values: set[int]) -> dict[int, list[_Copy]]:
    """Return the copies of these values in order of arrival."""
    held: dict[int, int] = {}
    released: dict[int, int] = {}
    writes: list[dict[str, Any]] = []
    for entry in _entries(path):
        match entry:
            case {"f": "held", "id": int(id_), "value": int(value), "time": int(time)} if value in values:
                held[id_] = time
            case {"f": "released", "id": int(id_), "time": int(time)} if id_ in held:
                released[id_] = time
            case {"f": "write", "id": int(), "value": int(value), "received": int(), "done": int()} if (
                value in values
            ):
                writes.append(entry)
    found: dict[int, list[_Copy]] = {}
    for entry in sorted(writes, key=lambda entry: int(entry["received"])):
        end = entry.get("applied") or entry["done"]
        begin = held.get(entry["id"])
        held_ns = end - entry["received"] if end - entry["received"] > _HELD_NS else 0
        if begin is not None:
            held_ns = max(released.get(entry["id"], end) - begin, 0)
        found.setdefault(entry["value"], []).append(
            _Copy(
                node=str(entry.get("node", "?")),
                applied=entry.get("applied"),
                done=entry["done"],
                outcome=str(entry.get("outcome", "")),
                held_ns=held_ns,
            )
        )
    return found


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the log's lines; a torn last line (a killed storage) and a missing log are left out."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict):
                    yield entry
    except OSError:
        return


def _node(copy: _Copy) -> str:
    return copy.node.upper()


def _show_ns(ns: int) -> str:
    return f"{ns / 1e9:.1f} s" if ns >= 1_000_000_000 else show_ms(ns / 1e6)
