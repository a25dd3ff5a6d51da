"""Every kind of anomaly in one place: what it is exactly, what it means, and a history that shows it.

The terminal (`jepsen-blk explain`), the report and docs/anomalies.md all speak from here, and the tests give
each example to the checker, which must find exactly that kind: what is written here cannot come apart from
what is judged. The order is that in which anomalies are reported.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.record import PENDING, TORN, Crash, F, Fence, History, Outcome

BLOCK = 17
"""The block of the examples; what is misdirected was written to the one before."""
NAMES = {1: "A", 2: "B", 3: "C"}
"""The values of the examples, as the definitions name their writes."""
_A, _B, _C = NAMES
_MS = 1_000_000

SYMBOLS = (
    ("A, B", "two writes of a block, each with the reads that returned its value; A is the older one"),
    ("R", "the bad read: it returned A although start(R) > seen(B)"),
    ("start, finish", "when an operation was issued, and when its answer came"),
    ("ack(B)", "the finish of write B if it was acknowledged"),
    ("close(A)", "when an indeterminate write A can no longer take effect (docs/anomalies.md, Deadlines)"),
    ("minf(A)", "the least finish of A: of its write (ack, or close) and of its reads"),
    ("seen(B)", "when B was first known to have taken effect: minf(B) without a close"),
    ("maxs(A)", "the greatest start of A: of its write and of its reads"),
    ("x → y", "x ended before y began: finish(x) < start(y)"),
    ("A ↯ B", "each must precede the other: minf(A) < maxs(B) and minf(B) < maxs(A)"),
)
"""What the definitions are written in."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of an example, times in ms; `finish` None: it never completed."""

    f: F
    process: int
    value: int
    start: int
    finish: int | None
    outcome: Outcome = Outcome.OK
    block: int = BLOCK
    boot: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of anomaly.

    `title` says it in one line, `definition` in the symbols above, `meaning` in plain words. `witness` is
    what proves it, `evidence` what would tell it from its neighbours. `rows` are the example, in order of
    start, with the times of its fences and power losses in ms; it is judged under `deadline`.
    """

    name: str
    title: str
    definition: str
    meaning: str
    witness: str
    causes: tuple[str, ...]
    evidence: str
    rows: tuple[Row, ...]
    fences: tuple[int, ...] = ()
    crashes: tuple[int, ...] = ()
    deadline: Deadline = Deadline.FENCE

    def history(self) -> History:
        """Return the example as the checker reads it, times in ns."""

        def column(name: str, kind: type[np.generic]) -> np.ndarray:
            return np.array([getattr(row, name) for row in self.rows], dtype=kind)

        finish = [PENDING if row.finish is None else row.finish * _MS for row in self.rows]
        return History(
            f=column("f", np.uint8),
            outcome=column("outcome", np.uint8),
            process=column("process", np.int32),
            boot=column("boot", np.int32),
            block=column("block", np.int64),
            value=column("value", np.int64),
            start=column("start", np.int64) * _MS,
            finish=np.array(finish, dtype=np.int64),
            fences=tuple(Fence(time * _MS) for time in self.fences),
            crashes=tuple(Crash(time * _MS, time * _MS) for time in self.crashes),
        )


def kind_named(name: str) -> Kind:
    """Return the kind of that name; raises UserError with the names that are close to it."""
    if name in KINDS:
        return KINDS[name]
    close = difflib.get_close_matches(name, KINDS, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(other) for other in close)}" if close else ""
    raise UserError(f"no kind of anomaly {name!r}; `jepsen-blk explain` lists them{hint}")


def _write(
    process: int,
    value: int,
    start: int,
    finish: int | None,
    outcome: Outcome = Outcome.OK,
    block: int = BLOCK,
) -> Row:
    return Row(F.WRITE, process, value, start, finish, outcome, block)


def _read(process: int, value: int, start: int, finish: int, boot: int = 0) -> Row:
    return Row(F.READ, process, value, start, finish, boot=boot)


_TWO_WRITES = (_write(0, _A, 0, 10), _write(1, _B, 20, 30))

_ALL = (
    Kind(
        name="future-read",
        title="a read returned a value before it was written",
        definition="R → W, where W is the write of the value that R returned",
        meaning="The read ended before the write that it saw had begun. No storage can do that.",
        witness="the write, R",
        causes=("a wrong clock", "operations stamped in the wrong order by the harness"),
        evidence="None is needed, and nothing else of the run can be trusted until it is explained.",
        rows=(_read(2, _A, 0, 10), _write(0, _A, 20, 30), _read(2, _A, 40, 50)),
    ),
    Kind(
        name="split-brain",
        title="two contents of a block take turns",
        definition="A ↯ B and R → b → r, where b is a read of B and r one of A, and B was read again after "
        "the last read of A; or two writes have one value",
        meaning="The block shows the old content, the new one, the old and the new again, so both exist "
        "somewhere. Or one boot issued the same write twice: two copies of the guest run.",
        witness="A, B, R; or the two writes",
        causes=(
            "two copies of the data that a path or a cache chooses between",
            "two running copies of the guest after a failover without fencing",
        ),
        evidence="Without the second turn it is a stale-read (B is seen last) or a stale-overwrite (A is).",
        rows=(
            *_TWO_WRITES,
            _read(2, _A, 40, 50),
            _read(2, _B, 60, 70),
            _read(2, _A, 80, 90),
            _read(2, _B, 100, 110),
        ),
    ),
    Kind(
        name="torn",
        title="a block holds parts of two writes",
        definition="the stamps within the block that R returned differ",
        meaning="One atomic unit of the disk holds parts of two writes.",
        witness="R",
        causes=(
            "a write that is not atomic in the unit the disk promised",
            "a power loss or a reset in the midst of a write",
        ),
        evidence="None is needed: one read proves it.",
        rows=(_write(0, _A, 0, 10), _write(1, _B, 20, 40), _read(2, TORN, 50, 60)),
    ),
    Kind(
        name="misdirected",
        title="a write landed on another block",
        definition="block(R) ≠ block(W), where W is the write of the value that R returned",
        meaning="The block holds a whole, valid write that was meant for another block.",
        witness="the write, R",
        causes=("an address that went wrong in a driver, a remapping layer or a device",),
        evidence="None is needed: the stamp names the block it was written to.",
        rows=(_write(0, _A, 0, 10, block=BLOCK - 1), _write(1, _B, 0, 10), _read(2, _A, 20, 30)),
    ),
    Kind(
        name="aborted-read",
        title="a read returned a write that certainly failed",
        definition="outcome(W) = fail, where W is the write of the value that R returned",
        meaning="The guest was told that the write did not happen, and then found it on the disk.",
        witness="the write, R",
        causes=("a failure that was reported for a write that went on all the same",),
        evidence="If the write had only been indeterminate (info), reading it would be allowed.",
        rows=(_write(0, _A, 0, 10, Outcome.FAIL), _read(2, _A, 20, 30)),
    ),
    Kind(
        name="durability-loss",
        title="a flushed write was gone after a power loss",
        definition="after a crash v must precede some durable write d: R began after the crash and returned "
        "v, and t*(v) < maxs(d), where d is durable if ack(d) < start(F) for a completed flush F (or d was "
        "FUA), and t*(v) is minf(v), or the minf of that forward zone (minf to maxs) which contains minf(v)",
        meaning="The storage had said that d is on stable media. After the power loss the block shows "
        "something older than d.",
        witness="v, d, the flush, the read",
        causes=(
            "a volatile cache that acknowledges a flush without writing",
            "a flush that a layer between the guest and the disk swallowed",
        ),
        evidence="Without the completed flush after d, losing d in a power loss is allowed.",
        rows=(
            *_TWO_WRITES,
            Row(F.FLUSH, 1, 0, 35, 45, block=0),
            _read(2, _A, 60, 70, boot=1),
        ),
        crashes=(50,),
    ),
    Kind(
        name="split-survivor",
        title="two old contents were read after one power loss",
        definition="two reads that began after a power loss returned v and w, v ≠ w, both of before it, "
        "and nothing was written to the block since",
        meaning="After the power loss the block shows now one old content and now another. Only one of them "
        "can have survived.",
        witness="both writes, both reads",
        causes=(
            "copies of the data that differ after the power loss",
            "a cache that is written back late",
        ),
        evidence="None is needed. That either content survived may be allowed, that both did is not.",
        rows=(*_TWO_WRITES, _read(2, _A, 60, 70, boot=1), _read(2, _B, 80, 90, boot=1)),
        crashes=(50,),
    ),
    Kind(
        name="fenced-zombie",
        title="a write took effect after its node had been fenced",
        definition="A ↯ B, but only because a fence closed one of the two, an indeterminate write of the "
        "fenced boot: close(A) < maxs(B) ≤ seen(A); or close(B) < start(r) for a read r of A and maxs(A) ≤ "
        "seen(B), and then R is a read of B",
        meaning="The write never ended; then its node was fenced, which promises that nothing of it can land "
        "any more. Then B was acknowledged, and still A turned up; or reads still found A, and only then B.",
        witness="A, B, R (and the read of A if B is the late one)",
        causes=(
            "a fence that refuses new commands but lets accepted ones go on",
            "a fence that is confirmed before the aborted commands are gone",
        ),
        evidence="A read of A before B began would make it a resurrected-write: A had landed in time, once. "
        "A read of B before r would make r a stale-read: so had B. Whether a write was late or a read stale "
        "only the storage's log can tell.",
        rows=(_write(0, _A, 0, None, Outcome.INFO), _write(1, _B, 20, 30), _read(2, _A, 40, 50)),
        fences=(15,),
    ),
    Kind(
        name="zombie-write",
        title="a write took effect after the guest had been given its error",
        definition="as fenced-zombie, but the write was closed by its own error; under the deadline `error` "
        "only",
        meaning="The guest was told that A failed, wrote B, and then found A; or it was told that B failed, "
        "still found A, and only then B.",
        witness="A, B, R (and the read of A if B is the late one)",
        causes=("a command that outlived the error, time-out or reset that the guest was given for it",),
        evidence="Under the deadlines `never` and `fence` the same history is no anomaly without a fence.",
        rows=(_write(0, _A, 0, 10, Outcome.INFO), _write(1, _B, 20, 30), _read(2, _A, 40, 50)),
        deadline=Deadline.ERROR,
    ),
    Kind(
        name="resurrected-write",
        title="an indeterminate write came back over a newer one",
        definition="A ↯ B, A indeterminate, some read a of A with finish(a) < start(B), and as "
        "stale-overwrite otherwise",
        meaning="A ended in an error or never, but was seen, so it had landed; B replaced it; A came back.",
        witness="A, a read of A, B, R",
        causes=("a retry of A that was already done and lands a second time",),
        evidence="A later read of B would make it a stale-read: B had been there all the time.",
        rows=(
            _write(0, _A, 0, 10, Outcome.INFO),
            _read(2, _A, 12, 18),
            _write(1, _B, 20, 30),
            _read(2, _B, 40, 50),
            _read(2, _A, 60, 70),
            _read(2, _A, 80, 90),
        ),
    ),
    Kind(
        name="stale-overwrite",
        title="an old write came back over a newer, acknowledged one",
        definition="A ↯ B and o → R, where o is the read of B that ended last, or if B was never read a read "
        "of another value than A with start(o) > seen(B); and no read of B began after the last read of A",
        meaning="A came back for good: the block had shown something newer, then it showed A, and B is gone.",
        witness="A, B, R (and a read of B if the writes overlapped)",
        causes=(
            "a second copy of A that landed after B: a re-issue while the first copy was still in flight",
            "a retry or a replay of A by a layer that did not know that A was done",
        ),
        evidence="A later read of B would make it a stale-read, or a split-brain if they take turns.",
        rows=(*_TWO_WRITES, _read(2, _B, 40, 50), _read(2, _A, 60, 70), _read(2, _A, 80, 90)),
    ),
    Kind(
        name="reverted-to-initial",
        title="the block went back to never written",
        definition="as lost-write or stale-overwrite, where A is the initial value: start(R) > seen(B)",
        meaning="B was acknowledged or seen, and then the block was as if nothing had ever been written.",
        witness="B, R",
        causes=("a write that was never applied", "a discard", "a wrong or an older image of the disk"),
        evidence="A later read of B would make it a stale-read.",
        rows=(_write(1, _B, 0, 10), _read(2, _B, 20, 30), _read(2, 0, 40, 50), _read(2, 0, 60, 70)),
    ),
    Kind(
        name="lost-write",
        title="an acknowledged write was never seen",
        definition="A ↯ B, B acknowledged and never read, and between ack(B) and the last read of A "
        "no read of another value than A",
        meaning="The guest was told that B is on the disk; every read after it returned A, as if B had never "
        "been written.",
        witness="A, B, R",
        causes=("B was completed without being applied", "A overwrote B before anything read it"),
        evidence="A later read of B would make it a stale-read; of B and then A, a stale-overwrite. Whether "
        "A overwrote B only the storage's log can tell.",
        rows=(*_TWO_WRITES, _read(2, _A, 40, 50), _read(2, _A, 60, 70)),
    ),
    Kind(
        name="stale-read",
        title="a read returned an old value, a later one the new",
        definition="A ↯ B, and some read b of B with R → b for the last read R of A; or reads of A and of B "
        "after seen(B) that overlap, so that neither came last",
        meaning="One answer was old, but nothing was lost: the new content was seen after it.",
        witness="A, B, R (and a read of B if the writes overlapped)",
        causes=("a cache or a path that served old content", "a mirror that had not caught up"),
        evidence="If A were read again after B it would be a split-brain or, A staying, a stale-overwrite.",
        rows=(*_TWO_WRITES, _read(2, _A, 40, 50), _read(2, _B, 60, 70)),
    ),
    Kind(
        name="phantom",
        title="a read returned what nobody wrote",
        definition="R returned no valid stamp, a stamp of another run, or a value that no write has",
        meaning="The block holds something that this test never put there.",
        witness="R",
        causes=("corruption", "a disk that another test or another guest uses"),
        evidence="None is needed. The last writes of a guest that died are known from its stamps, and are no "
        "phantoms.",
        rows=(_write(0, _A, 0, 10), _read(2, _C, 20, 30)),
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
"""Every kind by its name."""
