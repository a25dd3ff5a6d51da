"""Builds run directories from numbers, as a run on the lab would leave them, without any lab.

The host's clock starts at HOST_NS; the guest's at 0, and stands still while the guest is stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jepsen_blk.history.journal import HEADER, pack_chunk
from jepsen_blk.history.record import ROW, F, Outcome
from jepsen_blk.spec import dump_spec, make_spec

HOST_NS = 51_234_000_000_000
BLOCK = 17
OLD = 4242
NEW = 4243
MS = 1_000_000


def write_journal(path: Path, rows: np.ndarray, spec: str = "lost-path", rows_per_chunk: int = 4096) -> None:
    opening = ({"note": "open", "run": 1, "spec": spec}, {"note": "boot", "boot": 0})
    closing = ({"note": "bye", "boot": 0}, {"note": "close"})
    chunks = [(2, json.dumps(note).encode()) for note in opening]
    chunks += [(1, rows[at : at + rows_per_chunk].tobytes()) for at in range(0, len(rows), rows_per_chunk)]
    chunks += [(2, json.dumps(note).encode()) for note in closing]
    path.write_bytes(b"".join(pack_chunk(kind, 0, i, payload) for i, (kind, payload) in enumerate(chunks)))


@dataclass
class Fabric:
    """A run being made: guest operations, the storage's log and events, with one stop of the guest."""

    stopped_ns: int = 10**18
    stop_length_ns: int = 0
    operations: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)
    target: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    target_ids: int = 0

    def guest(self, host_ns: int) -> int:
        """Guest time of a host time (both relative to the run's start)."""
        if host_ns < self.stopped_ns + self.stop_length_ns:
            return min(host_ns, self.stopped_ns)
        return host_ns - self.stop_length_ns

    def op(
        self,
        f: F,
        process: int,
        block: int,
        value: int,
        start: int,
        finish: int,
        outcome: Outcome = Outcome.OK,
    ) -> None:
        self.operations.append((f, outcome, process, block, value, self.guest(start), self.guest(finish)))

    def copy(
        self,
        node: str,
        block: int,
        value: int,
        received: int,
        done: int,
        *,
        action: str = "apply",
        held: int | None = None,
        released: int | None = None,
        process: int = 0,
    ) -> None:
        self.target_ids += 1
        number = self.target_ids
        if held is not None:
            self.target.append(
                {
                    "f": "held",
                    "id": number,
                    "hold": 1,
                    "node": node,
                    "block": block,
                    "value": value,
                    "time": HOST_NS + held,
                }
            )
        if released is not None:
            self.target.append({"f": "released", "hold": 1, "id": number, "time": HOST_NS + released})
        applied = HOST_NS + done - 20_000 if action in ("apply", "park") else None
        self.target.append(
            {
                "f": "write",
                "id": number,
                "node": node,
                "block": block,
                "value": value,
                "process": process,
                "received": HOST_NS + received,
                "applied": applied,
                "done": HOST_NS + done,
                "action": action,
                "outcome": "ok",
                "why": "",
            }
        )

    def event(self, time: int, source: str, name: str, phase: str, node: str = "", **data: Any) -> None:
        self.events.append(
            {
                "time_ns": HOST_NS + time,
                "source": source,
                "name": name,
                "phase": phase,
                "node": node,
                "data": data,
            }
        )

    def background(self, until_ms: int, quiet: tuple[int, int], node_change_ms: int, seed: int = 7) -> None:
        """A busy workload on every block but BLOCK, none of it while the guest is stopped (`quiet`)."""
        rng = np.random.default_rng(seed)
        sequence, current = 10_000, dict.fromkeys(range(256), 0)
        free = [int(x) for x in rng.integers(0, 3 * MS, 16)]
        while True:
            process = int(np.argmin(free))
            start = free[process]
            if start > until_ms * MS:
                break
            latency = int(rng.lognormal(1.1, 0.45) * MS)
            if quiet[0] * MS - 30 * MS < start + latency and start < quiet[1] * MS + MS:
                free[process] = max(start, quiet[1] * MS + MS) + int(rng.integers(MS, 3 * MS))
                continue
            free[process] = start + latency + 50_000
            block = process * 16 + int(rng.integers(0, 16))
            if block == BLOCK:
                continue
            if rng.random() < 0.3:
                self.op(F.READ, process, block, current[block], start, start + latency)
                continue
            sequence += 1
            current[block] = sequence
            node = "x" if start < node_change_ms * MS else "y"
            self.op(F.WRITE, process, block, sequence, start, start + latency)
            self.copy(node, block, sequence, start + 150_000, start + latency - 120_000, process=process)
        for block in range(256):
            if block != BLOCK:
                start = (until_ms + 30) * MS + block * 100_000
                self.op(F.READ, block % 16, block, current[block], start, start + MS)

    def _complete_events(self, results: dict[str, Any]) -> None:
        """Add what the lab's events carry beyond those written by hand: reports of migrations and faults."""
        faults = iter(results["faults"])
        complete: list[dict[str, Any]] = []
        for event in self.events:
            key = event["source"], event["phase"]
            before = dict(event, phase="setup", data={})
            if key == ("fault", "inject") and not any(e["phase"] == "setup" for e in complete[-1:]):
                complete.append(before)
            if key == ("migration", "end"):
                at = event["time_ns"]
                move = next(move for move in results["migrations"] if move["end_ns"] == at)
                counted = {"in_flight", "reissued", "overlap", "indeterminate"}
                counted |= {"pause_ms", "first_write_ms", "stall_ms"}
                event["data"] = {k: v for k, v in move.items() if k not in counted}
            complete.append(event)
            if key in (("fault", "healed"), ("fault", "failed")):
                report = {k: v for k, v in next(faults).items() if k != "name"}
                complete.append(dict(event, phase="over", data=report))
        last = max(event["time_ns"] for event in complete)
        complete.append(
            {"time_ns": last, "source": "schedule", "name": "", "phase": "done", "node": "", "data": {}}
        )
        self.events = complete

    def store_logs(self, run_dir: Path) -> None:
        self.target.sort(key=lambda line: line.get("done", line.get("time", 0)))
        for name, lines in (("target.jsonl", self.target), ("events.jsonl", self.events)):
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
            (run_dir / name).write_text(text)

    def write(self, run_dir: Path, results: dict[str, Any], spec: dict[str, Any]) -> Path:
        run_dir.mkdir(parents=True, exist_ok=True)
        order = sorted(self.operations, key=lambda row: row[6])
        rows = np.array([tuple(map(int, row)) for row in order], dtype=ROW)
        index = {(row[0], row[4], row[6]): i for i, row in enumerate(order)}
        for anomaly in results["anomalies"]:
            anomaly["ops"] = [index[key] for key in anomaly["ops"]]
        for move in results["migrations"]:
            move["in_flight"] = sum(
                line["f"] == "write"
                and line["node"] == move["source"]
                and line["received"] <= move["stopped_ns"] < line["done"]
                for line in self.target
            )
        self._complete_events(results)
        results["ops"] = len(rows)
        write_journal(run_dir / "history.blk", rows, spec["name"])
        self.store_logs(run_dir)
        (run_dir / "results.json").write_text(json.dumps(results, indent=1))
        (run_dir / "spec.toml").write_text(dump_spec(make_spec(spec)))
        (run_dir / "environment.json").write_text(json.dumps(ENVIRONMENT, indent=1))
        return run_dir


ENVIRONMENT = {
    "jepsen_blk": "0.1.0",
    "host": "lab-7",
    "kernel": "6.1.0-28-amd64",
    "qemu": "7.2.15",
    "nbdkit": "1.32.5",
    "accelerator": "tcg (kvm: /dev/kvm is missing)",
    "python": "3.11.2",
    "cpus": 2,
}


def _spec(name: str, policy: str, fault: str) -> dict[str, Any]:
    return {
        "name": name,
        "seed": 20060814,
        "time_limit_s": 7.0,
        "handoff": {"policy": policy},
        "storage": {"conflict": "ignore-second"},
        "nemesis": [{"fault": fault, "after_s": 1.0}],
    }


def _results(verdict: str, **more: Any) -> dict[str, Any]:
    results: dict[str, Any] = {
        "verdict": verdict,
        "deadline": "fence",
        "ops": 0,
        "duration_s": 7.2,
        "anomalies": [],
        "reasons": [],
        "deadlines": dict.fromkeys(("never", "fence", "error"), verdict),
        "migrations": [],
        "faults": [],
        "workload": {"reads": 5210, "writes": 12104, "info": 0, "ops_per_s": 2405.0},
    }
    return results | more


def _migration(
    begin_ms: float, stopped_ms: float, end_ms: float, in_flight: int, reissued: int, path: str = "xy"
) -> dict[str, Any]:
    return {
        "source": path[0],
        "destination": path[1],
        "mode": "precopy",
        "begin_ns": HOST_NS + int(begin_ms * MS),
        "stopped_ns": HOST_NS + int(stopped_ms * MS),
        "end_ns": HOST_NS + int(end_ms * MS),
        "total_ms": end_ms - begin_ms,
        "downtime_ms": 38.0,
        "in_flight": in_flight,
        "reissued": reissued,
        "overlap": reissued,
        "indeterminate": 0,
        "pause_ms": end_ms - stopped_ms + 45.0,
        "first_write_ms": end_ms - stopped_ms + 47.0,
        "stall_ms": end_ms - stopped_ms + 52.5,
    }


PROOF = "x cannot reach the storage, its guest is in io-error; write 4242 of x to block 17 is held in flight"


def failing_run(
    run_dir: Path,
    name: str = "lost-path-2006",
    *,
    ignore_second: bool = False,
    proof: str = PROOF,
    with_target_log: bool = True,
) -> Path:
    """The founding case: A held on X, path lost, guest moved, A again and A' from Y, then the late A."""
    made = Fabric(stopped_ns=1_310 * MS, stop_length_ns=(2_480 - 1_310) * MS)
    made.background(6_400, (1_310, 2_480), 2_480)
    fault = "lost-path-migration"
    made.event(998 * MS, "fault", fault, "setup")
    made.event(1_000 * MS, "fault", fault, "inject", "x")
    made.copy(
        "x", BLOCK, OLD, 1_004 * MS, 4_012 * MS, held=1_004 * MS + 40_000, released=4_010 * MS, process=3
    )
    made.op(F.WRITE, 3, BLOCK, OLD, 1_003_800_000, 2_486 * MS)
    made.event(1_330 * MS, "fault", fault, "proven", "x", proof=proof)
    made.event(1_340 * MS, "migration", "precopy", "begin", "x", destination="y")
    made.event(1_310 * MS, "migration", "precopy", "stop", "x")
    made.event(2_450 * MS, "migration", "precopy", "end", "y")
    made.event(2_452 * MS, "handoff", "requeue", "done", "y")
    made.event(2_480 * MS, "migration", "precopy", "resume", "y")
    action = "ignore" if ignore_second else "apply"
    made.copy("y", BLOCK, OLD, 2_482 * MS, 2_485 * MS, action=action, process=3)
    made.copy("y", BLOCK, NEW, 2_486_800_000, 2_489 * MS, action=action, process=3)
    made.op(F.WRITE, 3, BLOCK, NEW, 2_486_500_000, 2_489_300_000)
    seen_ns, bad_ns = 2_941_200_000, 4_131_100_000
    keys = [(F.WRITE, OLD, made.guest(2_486 * MS)), (F.WRITE, NEW, made.guest(2_489_300_000))]
    if not ignore_second:
        made.op(F.READ, 1, BLOCK, NEW, 2_940 * MS, seen_ns)
        keys.append((F.READ, NEW, made.guest(seen_ns)))
    made.event(2_960 * MS, "workload", "read-all", "done", "y")
    made.op(F.READ, 5, BLOCK, OLD, 4_130 * MS, bad_ns)
    keys.append((F.READ, OLD, made.guest(bad_ns)))
    made.event(4_150 * MS, "workload", "read-all", "done", "y")
    made.event(4_160 * MS, "fault", fault, "heal")
    made.event(4_420 * MS, "fault", fault, "healed", "y", proof="write 4242 has landed; the guest runs on y")
    text = (
        f"block {BLOCK}: a read returned {OLD} 1640.7 ms after {NEW} had been acknowledged; nothing wrote "
        f"{OLD} again in between, so the acknowledged write {NEW} is lost."
    )
    blame = (
        "The storage received 4242 twice: from x (held, then applied last) and from y. The copy from x was "
        "applied 1523.0 ms after 4243 had been acknowledged."
    )
    kind = "lost-write" if ignore_second else "stale-overwrite"
    anomaly = {
        "kind": kind, "block": BLOCK, "ops": keys, "severity_ms": 1640.7, "text": text, "blame": blame,
    }  # fmt: skip
    results = _results(
        "fail",
        anomalies=[anomaly],
        migrations=[_migration(1_340, 1_310, 2_450, 1, 1)],
        faults=[{"name": fault, "proven": True, "healed": True, "why": ""}],
        reasons=["1 anomaly on 1 of 256 blocks"],
    )
    run = made.write(run_dir, results, _spec(name, "requeue", fault))
    if not with_target_log:
        (run / "target.jsonl").unlink()
    return run


def passing_run(run_dir: Path, name: str = "migrate-drain") -> Path:
    """Three migrations, writes in flight at each, nothing lost; only the first stops the guest's clock."""
    made = Fabric(stopped_ns=1_300 * MS, stop_length_ns=45 * MS)
    made.background(6_400, (1_300, 1_345), 1_345)
    migrations = []
    for i, begin in enumerate((600, 2_300, 4_600)):
        source, destination = ("x", "y") if i % 2 == 0 else ("y", "x")
        stopped, count = begin + 700, (5, 9, 2)[i]
        migrations.append(_migration(begin, stopped, stopped + 30, count, 0, source + destination))
        made.event((begin - 10) * MS, "fault", "migrate", "inject", source)
        made.event(begin * MS, "migration", "precopy", "begin", source, destination=destination)
        made.event((stopped + 30) * MS, "migration", "precopy", "end", destination)
        made.event((stopped + 35) * MS, "handoff", "drain", "done", destination)
        made.event((stopped + 45) * MS, "migration", "precopy", "resume", destination)
        made.event((stopped + 60) * MS, "fault", "migrate", "proven", destination, proof="the guest moved")
        made.event((stopped + 90) * MS, "fault", "migrate", "healed", destination, proof="the guest runs")
        for k in range(count):
            received, done = stopped * MS - (k + 1) * 400_000, stopped * MS + (k + 2) * 300_000
            made.copy(source, 200 + k, 90_000 + i * 100 + k, received, done)
    faults = [{"name": "migrate", "proven": True, "healed": True, "why": ""} for _ in range(3)]
    results = _results("pass", migrations=migrations, faults=faults)
    return made.write(run_dir, results, _spec(name, "drain", "migrate"))


def unknown_run(run_dir: Path, name: str = "idle-migration") -> Path:
    """A fault that was never seen to work, and no write in flight at the only migration."""
    made = Fabric(stopped_ns=1_800 * MS, stop_length_ns=40 * MS)
    made.background(3_000, (1_800, 1_840), 1_840)
    made.event(900 * MS, "fault", "path-loss", "inject", "x")
    made.event(1_000 * MS, "migration", "precopy", "begin", "x", destination="y")
    made.event(1_830 * MS, "migration", "precopy", "end", "y")
    made.event(1_840 * MS, "migration", "precopy", "resume", "y")
    why = "x still reaches the storage"
    made.event(1_900 * MS, "fault", "path-loss", "failed", why=why)
    results = _results(
        "unknown",
        migrations=[_migration(1_000, 1_800, 1_830, 0, 0)],
        faults=[{"name": "path-loss", "proven": False, "healed": True, "why": why}],
        reasons=[f"path-loss did not take effect: {why}", "no migration had a write in flight"],
    )
    return made.write(run_dir, results, _spec(name, "requeue", "path-loss"))


def long_run(run_dir: Path, operations: int = 1_000_000) -> Path:
    """A failing run with very many operations after the anomaly, one of them 900 ms slower than the rest."""
    failing_run(run_dir)
    rng = np.random.default_rng(3)
    rows = np.zeros(operations, dtype=ROW)
    rows["f"] = rng.integers(0, 2, operations)
    rows["process"] = rng.integers(0, 16, operations)
    rows["block"] = 100 + rng.integers(0, 100, operations)
    rows["value"] = np.where(rows["f"] == F.WRITE, 1_000_000 + np.arange(operations), 0)
    rows["start"] = np.arange(operations) * 100_000 + 7_000 * MS
    rows["finish"] = rows["start"] + rng.integers(1, 9, operations) * MS
    rows["finish"][operations // 2] += 900 * MS
    before = journal_rows((run_dir / "history.blk").read_bytes())
    write_journal(run_dir / "history.blk", np.concatenate([before, rows]), rows_per_chunk=65_536)
    return run_dir


def journal_rows(data: bytes) -> np.ndarray:
    parts, at = [], 0
    while at < len(data):
        kind, length = HEADER.unpack_from(data, at)[1], HEADER.unpack_from(data, at)[4]
        at += HEADER.size
        if kind == 1:
            parts.append(np.frombuffer(data[at : at + length], dtype=ROW))
        at += length
    return np.concatenate(parts)
