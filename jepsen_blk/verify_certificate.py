"""Confirms a certificate against its history, and shares no code with the checker that made it.

Whoever doubts a verdict need trust only this file: it needs nothing but Python, reads the history itself and
knows no rule but an atomic register's. The format is in docs/anomalies.md. It says one line and ends with 0
(confirmed), 1 (refuted) or 254 (unreadable): `python -m jepsen_blk.verify_certificate CERTIFICATE FILE.jsonl`
"""

import json
import sys
from collections import namedtuple
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

MOST_OPS = 8
SEQUENCE_BITS = 40
Op = namedtuple("Op", "f process block value start finish outcome boot")


class RefutedError(Exception):
    """The certificate claims what the history does not bear out."""


class Verifier:
    """The history: operations by line from 0, lines of writes by value."""

    def __init__(self, path: str, header: dict[str, Any]) -> None:
        data = Path(path).read_bytes()
        entries: list[Any] = [json.loads(line) if line.strip() else {"f": ""} for line in data.split(b"\n")]
        self.deadline, self.sha256 = header["deadline"], sha256(data).hexdigest()
        self.count = sum(entry["f"] in ("read", "write", "flush") for entry in entries)
        self.fences = [(entry.get("boot", 0), entry["time"]) for entry in entries if entry["f"] == "fence"]
        if any(entry["f"] in ("crash", "clock") for entry in entries):
            raise RefutedError("a history with a power loss or an uncertain clock has no certificate")
        self.placed: set[int] = set()
        self.ops = {i: self.read(entry) for i, entry in enumerate(entries) if entry["f"] in ("read", "write")}
        for entry in header["adopted"]:
            self.adopt(entry["line"], self.read(entry), header["lost_tails"])
        self.writes: dict[int, set[int]] = {}
        for line, op in self.ops.items():
            if op.f == "write":
                self.writes.setdefault(op.value, set()).add(line)

    def read(self, entry: dict[str, Any]) -> Op:
        """Return an operation, with the last moment at which it may take effect; `fail`: it did not."""
        f, outcome, start, boot = entry["f"], entry["outcome"], entry["start"], entry.get("boot", 0)
        finish = inf if entry["finish"] is None else entry["finish"]
        if outcome == "info":
            outcome = "info" if f == "write" else "fail"
            fence = min((time for of, time in self.fences if of == boot and time > start), default=inf)
            finish = {"never": inf, "fence": fence, "error": min(fence, finish)}[self.deadline]
        return Op(f, entry["process"], entry["block"], entry.get("value"), start, finish, outcome, boot)

    def adopt(self, line: int, op: Op, lost_tails: list[int]) -> None:
        """Believe in a write that no line reports: of a boot that lost its tail, and not dated too early."""
        boot, writes = op.value >> SEQUENCE_BITS, [op for op in self.ops.values() if op.f == "write"]
        starts = (w.start for w in writes if w.value >> SEQUENCE_BITS == boot and w.value < op.value)
        known = line >= 0 or line in self.ops or any(w.value == op.value for w in writes)
        if known or op[6:] != ("info", boot) or boot not in lost_tails or op.start < max(starts, default=0):
            raise RefutedError(f"line {line}: no lost tail can hold this write of {op.value}")
        self.ops[line] = op

    def confirm_order(self, part: dict[str, Any]) -> None:
        """Play the operations of a block in the order given."""
        content, now = 0, -inf
        for line, point in zip(part["lines"], part["points"], strict=True):
            op, why = self.ops.get(line), ""
            if op is None or op.block != part["block"] or line in self.placed or op.outcome == "fail":
                why = "no operation of this block that took effect, or one placed twice"
            elif not max(now, op.start) <= point <= op.finish:
                why = f"{point} is outside its interval, or before the point before it"
            elif op.f == "read" and op.value != content:
                why = f"it read {op.value}, but the latest write before it is of {content}"
            if op is None or why:
                raise RefutedError(f"block {part['block']}, line {line}: {why}")
            content, now = op.value, point
            self.placed.add(line)

    def confirm_witness(self, part: dict[str, Any]) -> None:
        """See that the operations stand in the history, and that no register can have done them."""
        kind, block = part["kind"], part["block"]
        shown = {entry["line"]: self.read(entry) for entry in part["ops"]}
        if any(self.ops.get(line) != op for line, op in shown.items()):
            raise RefutedError(f"{kind} of block {block}: its operations are not those lines of the history")
        written = [op.value for op in shown.values() if op.f == "write"]
        ops = [op for op in shown.values() if op.outcome != "fail"]
        faults = {self.fault(op) for op in ops if op.f == "read" and op.block == block} - {""}
        whole = all(op.block == block and self.writes.get(op.value, set()) <= shown.keys() for op in ops)
        twice = kind == "split-brain" and len(set(written)) < len(written)
        broken = whole and not faults and len(ops) <= MOST_OPS and not explained(ops, 0)
        if not (kind in faults or twice or broken):
            raise RefutedError(f"{kind} of block {block}: its operations do not contradict a register")

    def fault(self, op: Op) -> str:
        """Name what is wrong with a read in any order, or return "" where a write may explain it."""
        writes = [self.ops[line] for line in self.writes.get(op.value, ())]
        here = [write for write in writes if write.block == op.block]
        done = [write for write in here if write.outcome != "fail"]
        if op.value == 0 or any(write.start <= op.finish for write in done):
            return ""
        kind = "future-read" if done else "aborted-read" if here else "misdirected" if writes else "phantom"
        return "torn" if op.value == -2 else kind


def explained(left: list[Op], content: int) -> bool:
    """Tell whether some order of these operations is one of a register that holds `content`."""
    for i, op in enumerate(left):
        rest = left[:i] + left[i + 1 :]
        if not any(other.finish < op.start for other in rest):
            happened = (op.f == "write" or op.value == content) and explained(rest, op.value)
            if happened or (op.outcome == "info" and explained(rest, content)):
                return True
    return not left


def verify(certificate: str, history: str) -> str:
    """Return what is confirmed; raises RefutedError, and OSError or ValueError for what cannot be read."""
    with open(certificate, encoding="utf-8") as lines:
        header, *parts = map(json.loads, lines)
    verifier = Verifier(history, header)
    if (header["certificate"], header["sha256"], header["ops"]) != (1, verifier.sha256, verifier.count):
        raise RefutedError("header: it certifies another history")
    fails, blocks = header["verdict"] == "fail", {part["block"] for part in parts}
    if len(parts) != header["parts"] or (not parts if fails else len(blocks) < len(parts)):
        raise RefutedError("header: the lines after it are not those of its verdict")
    for part in parts:
        (verifier.confirm_witness if fails else verifier.confirm_order)(part)
    for line, op in verifier.ops.items():
        if not fails and op.outcome == "ok" and line not in verifier.placed:
            raise RefutedError(f"line {line} of the history has no place in the order")
    what = f"{len(parts)} contradictions" if fails else f"an order of {len(verifier.placed)} operations"
    return f"{what}; deadline {header['deadline']}, lost {header['lost_tails']}"


def main(arguments: list[str]) -> int:
    """Say the outcome in one line and return the exit code."""
    try:
        said, code = f"confirmed: {verify(*arguments)}", 0
    except RefutedError as refuted:
        said, code = f"refuted: {refuted}", 1
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        said, code = f"cannot read: {type(error).__name__}: {error}", 254
    sys.stdout.write(said + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
