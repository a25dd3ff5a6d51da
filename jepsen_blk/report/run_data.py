"""Loads a run directory into one frozen view, so that the drawing code never touches files or clocks.

Everything here is bounded: the history is reduced by numpy, and only the operations of the shown
anomalies become objects. All times of the view are milliseconds since the run's first operation or
event, on the host's clock.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.checker.lost_tail import adopt_lost_tails
from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.events import Event, fenced_boots, read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import PENDING, F, History, Int64s, Outcome
from jepsen_blk.report.model import (
    Anomaly,
    Band,
    Copy,
    FaultLine,
    HostEvent,
    Move,
    Op,
    RunData,
    ScriptLine,
    guest_node_at,
)
from jepsen_blk.report.series import Floats, make_series
from jepsen_blk.report.target_log import TargetEvent, TargetWrite, read_target_log
from jepsen_blk.report.timebase import fit_timebase

SHOWN_ANOMALIES = 12
_SHOWN_EVENTS = 400
_SHOWN_OPS = 12
_TOLD_ALONE = ("step", "cue", "saw", "proof", "why")
"""What an event says that needs no name before it."""


def load_run(run_dir: Path) -> RunData:
    """Load a run; raises UserError when it holds no results, HistoryError when its journal is damaged."""
    return _Loader(run_dir).load()


class _Loader:
    """The steps of loading, which share the run's files and its origin."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.results = _read_results(run_dir / "results.json")
        self.journal = read_journal(run_dir / "history.blk")
        self.history = adopt_lost_tails(self.journal.history)
        self.host_events = tuple(read_events(run_dir / "events.jsonl"))
        self.stops = [
            int(item["stopped_ns"]) for item in self.results.get("migrations", ()) if item.get("stopped_ns")
        ]
        self.found = list(self.results.get("anomalies", ()))
        self.rows = [_rows_of(self.history, item) for item in self.found[:SHOWN_ANOMALIES]]
        touched = [row for rows in self.rows for row in rows]
        self.log = read_target_log(
            run_dir / "target.jsonl",
            blocks=frozenset(self.history.block[touched].tolist()),
            values=frozenset(value for value in self.history.value[touched].tolist() if value > 0),
            stops=self.stops,
        )
        self.timebase = fit_timebase(self.history, self.log, self.stops)
        self.origin_ns = self._origin()

    def load(self) -> RunData:
        """Put the view together."""
        moves = self._moves()
        first = moves[0].source if moves else next((e.node for e in self.host_events if e.node), "")
        anomalies = tuple(
            self._anomaly(item, rows, moves, first) for item, rows in zip(self.found, self.rows, strict=False)
        )
        environment = _read_json(self.run_dir / "environment.json")
        events = tuple(self._event(event) for event in self.host_events[:_SHOWN_EVENTS])
        series = make_series(self.history, lambda times, boot: self._to_ms(times, boot))
        ends = [event.time_ms for event in events]
        ends += [float(p.time_ms.max()) for p in series.points if len(p.time_ms)]
        spec_path = self.run_dir / "spec.toml"
        spec_text = spec_path.read_text(encoding="utf-8", errors="replace") if spec_path.exists() else ""
        return RunData(
            name=self._name(),
            about=_about(spec_text),
            run_dir=self.run_dir,
            results=self.results,
            spec_text=spec_text,
            environment=tuple((str(key), _plain(value)) for key, value in environment.items()),
            anomalies=anomalies,
            more_anomalies=len(self.found) - len(anomalies),
            copies=tuple(self._copy(write) for write in (self.log.writes if self.log else ())),
            has_target_log=self.log is not None,
            aligned=self.timebase.aligned,
            moves=moves,
            bands=self._bands(max(ends, default=0.0)),
            faults=tuple(
                FaultLine(
                    int(item.get("number", number)),
                    int(item.get("during", 0)),
                    str(item.get("name", "")),
                    bool(item.get("proven")),
                    bool(item.get("healed")),
                    str(item.get("why", "")),
                )
                for number, item in enumerate(self.results.get("faults", ()), start=1)
            ),
            script=tuple(self._script()),
            events=events,
            fences=tuple(
                self._fence(event) for event in (self.log.events if self.log else ()) if event.f == "fence"
            ),
            lost_boots={boot: self._event(event) for boot, event in fenced_boots(self.host_events).items()},
            seen=next(
                (self._event(e) for e in self.host_events if (e.source, e.phase) == ("checker", "seen")), None
            ),
            end_ms=max(ends, default=0.0),
            series=series,
            history=self.history,
            timebase=self.timebase,
            origin_ns=self.origin_ns,
            torn_bytes=self.journal.torn_bytes,
        )

    def _name(self) -> str:
        for note in self.journal.notes:
            if note.get("note") == "open" and note.get("spec"):
                return str(note["spec"])
        return self.run_dir.resolve().parent.name

    def _origin(self) -> int:
        times = [event.time_ns for event in self.host_events[:1]] if self.timebase.aligned else []
        for boot in np.unique(self.history.boot).tolist() if len(self.history) else []:
            first = int(self.history.start[self.history.boot == boot].min())
            times.append(self.timebase.host(first, boot))
        if not times:
            times = [event.time_ns for event in self.host_events[:1]]
        return min(times, default=0)

    def _host_ms(self, time_ns: int) -> float:
        if not self.timebase.aligned and self.host_events:
            return (time_ns - self.host_events[0].time_ns) / 1e6
        return (time_ns - self.origin_ns) / 1e6

    def _to_ms(self, guest_ns: Int64s, boot: int) -> Floats:
        return np.asarray((self.timebase.hosts(guest_ns, boot) - self.origin_ns) / 1e6, dtype=np.float64)

    def _copy(self, write: TargetWrite) -> Copy:
        def maybe(time_ns: int | None) -> float | None:
            return None if time_ns is None else self._host_ms(time_ns)

        parked = write.action == "park"
        return Copy(
            write.node,
            write.block,
            write.value,
            self._host_ms(write.received_ns),
            maybe(write.applied_ns),
            self._host_ms(write.end_ns),
            maybe(write.received_ns if parked else write.held_ns),
            maybe(write.applied_ns if parked else write.released_ns),
            write.action,
            write.outcome,
            write.why,
        )

    def _event(self, event: Event) -> HostEvent:
        text = "; ".join(
            f"{key} {_plain(value)}" if key not in _TOLD_ALONE else _plain(value)
            for key, value in event.data.items()
        )
        time_ms = self._host_ms(event.time_ns)
        return HostEvent(time_ms, event.source, event.name, event.phase, event.node, text, event.number)

    def _script(self) -> Iterator[ScriptLine]:
        for event in self.host_events:
            if (event.source, event.phase) == ("fault", "step"):
                data = event.data
                at_ms = self._host_ms(event.time_ns)
                yield ScriptLine(int(data["number"]), at_ms, str(data["step"]), str(data["saw"]))

    def _fence(self, event: TargetEvent) -> HostEvent:
        text = "refused and aborted" if event.abort else "refused"
        return HostEvent(self._host_ms(event.time_ns), "storage", "fence", "done", event.node, text, 0)

    def _moves(self) -> tuple[Move, ...]:
        resumes = [e.time_ns for e in self.host_events if e.source == "migration" and e.phase == "resume"]
        crossing = self.log.crossing if self.log else ()
        moves = []
        for item in self.results.get("migrations", ()):
            stopped, end = int(item.get("stopped_ns") or 0), int(item.get("end_ns") or 0)
            # The lab sees the guest run only when it asks; a write from there proves it earlier.
            writes = (
                [w.received_ns for w in self.log.writes if w.node == item.get("destination")]
                if self.log
                else []
            )
            resumed = min((time for time in (*resumes, *writes) if time >= end), default=end)
            moves.append(
                Move(
                    source=str(item.get("source", "")),
                    destination=str(item.get("destination", "")),
                    mode=str(item.get("mode", "")),
                    begin_ms=self._host_ms(int(item.get("begin_ns") or 0)),
                    stopped_ms=self._host_ms(stopped),
                    end_ms=self._host_ms(end),
                    resumed_ms=self._host_ms(resumed),
                    total_ms=float(item.get("total_ms") or 0),
                    downtime_ms=float(item.get("downtime_ms") or 0),
                    in_flight=int(item.get("in_flight") or 0),
                    reissued=int(item.get("reissued") or 0),
                    overlap=item.get("overlap"),
                    indeterminate=item.get("indeterminate"),
                    pause_ms=item.get("pause_ms"),
                    first_write_ms=item.get("first_write_ms"),
                    stall_ms=item.get("stall_ms"),
                    crossing=tuple(
                        self._copy(w)
                        for w in crossing
                        if w.node == item.get("source") and w.received_ns <= stopped < (w.done_ns or w.end_ns)
                    ),
                )
            )
        return tuple(moves)

    def _bands(self, end_ms: float) -> tuple[Band, ...]:
        depths = {0: -1}
        begun: dict[int, Band] = {}
        ended: set[int] = set()
        for event in self.host_events:
            if event.source != "fault":
                continue
            number, time_ms = event.number, self._host_ms(event.time_ns)
            if event.phase == "setup":
                depths[number] = depths.get(event.data.get("during", 0), -1) + 1
            elif event.phase == "inject":
                begun[number] = Band(number, depths.get(number, 0), event.name, event.node, time_ms, end_ms)
            elif event.phase in ("healed", "failed") and number in begun and number not in ended:
                begun[number] = replace(begun[number], end_ms=time_ms)
                ended.add(number)
        return tuple(sorted(begun.values(), key=lambda band: band.begin_ms)[:_SHOWN_EVENTS])

    def _anomaly(self, item: dict[str, Any], rows: list[int], moves: tuple[Move, ...], first: str) -> Anomaly:
        ops = [self._op(row, moves, first) for row in rows[:_SHOWN_OPS]]
        return Anomaly(
            kind=str(item.get("kind", "anomaly")),
            block=-1 if item.get("block") is None else int(item["block"]),
            severity_ms=float(item.get("severity_ms") or 0),
            text=str(item.get("text", "")),
            blame=_plain(item.get("blame", "")),
            ops=tuple(sorted(ops, key=lambda op: op.start_ms)),
            raw=item,
        )

    def _op(self, row: int, moves: tuple[Move, ...], first: str) -> Op:
        history = self.history
        boot, finish = int(history.boot[row]), int(history.finish[row])
        ends = [int(history.start[row])] + ([finish] if finish != PENDING else [])
        times = self._to_ms(np.array(ends, dtype=np.int64), boot).tolist()
        # Without a common clock nobody can say where the guest was.
        known = self.timebase.aligned
        home = self._home(boot, moves, first)
        nodes = list(dict.fromkeys(guest_node_at(*home, time) for time in times)) if known else []
        return Op(
            line=int(history.line[row]) if history.line is not None else row,
            row=row,
            f=F(int(history.f[row])).name.lower(),
            process=int(history.process[row]),
            block=int(history.block[row]),
            value=int(history.value[row]),
            start_ms=times[0],
            finish_ms=times[1] if len(times) > 1 else None,
            outcome=Outcome(int(history.outcome[row])).name.lower(),
            boot=boot,
            node=" → ".join(node for node in nodes if node),
        )

    def _home(self, boot: int, moves: tuple[Move, ...], first: str) -> tuple[tuple[Move, ...], str]:
        """Return the moves of a boot and the node it began on: that of a failover, or the run's first."""
        for event in self.host_events:
            if (event.source, event.phase, event.data.get("boot")) == ("failover", "end", boot):
                begin_ms = self._host_ms(event.time_ns)
                return tuple(move for move in moves if move.begin_ms >= begin_ms), event.node
        return moves, first


def _about(spec_text: str) -> str:
    """Return what the stored specification says of itself; nothing where it is damaged."""
    try:
        return str(tomllib.loads(spec_text).get("about", ""))
    except tomllib.TOMLDecodeError:
        return ""


def _rows_of(history: History, item: dict[str, Any]) -> list[int]:
    """Turn line numbers into rows; a results file of another history is refused."""
    lines = np.array([int(line) for line in item.get("ops", ())], dtype=np.int64)
    if history.line is None:
        rows, known = lines, (lines >= 0) & (lines < len(history))
    else:
        places = np.flatnonzero(np.isin(history.line, lines))
        by_line = dict(zip(history.line[places].tolist(), places.tolist(), strict=True))
        known = np.array([line in by_line for line in lines.tolist()], dtype=np.bool_)
        rows = np.array([by_line.get(line, -1) for line in lines.tolist()], dtype=np.int64)
    if not known.all():
        raise HistoryError(
            f"results.json names operations {lines.tolist()} that the history of {len(history)} does not "
            "have; check the run again with: jepsen-blk check RUN"
        )
    return [int(row) for row in rows]


def _read_results(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: no results to report; check the run first with: jepsen-blk check RUN")
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); check the run again") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds no JSON object; check the run again")
    return data


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n".join(_plain(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
