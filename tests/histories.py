"""Histories for tests: from literals, and from a simulated atomic register."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jepsen_blk.history.record import INITIAL, PENDING, Clock, Crash, F, Fence, History, Outcome

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


class Op(NamedTuple):
    """One operation; `finish` None: it never completed."""

    f: F
    value: int
    start: int
    finish: int | None
    block: int = 0
    outcome: Outcome = OK
    boot: int = 0
    process: int = 0
    fua: bool = False


def write(value: int, start: int, finish: int | None, block: int = 0, **more: object) -> Op:
    return Op(F.WRITE, value, start, finish, block, **more)  # type: ignore[arg-type]


def read(value: int, start: int, finish: int | None, block: int = 0, **more: object) -> Op:
    return Op(F.READ, value, start, finish, block, **more)  # type: ignore[arg-type]


def flush(start: int, finish: int, **more: object) -> Op:
    return Op(F.FLUSH, 0, start, finish, **more)  # type: ignore[arg-type]


def history(
    ops: Iterable[Op],
    fences: Iterable[Fence] = (),
    lost_tails: Iterable[int] = (),
    crashes: Iterable[int | Crash] = (),
    clocks: Iterable[Clock] = (),
) -> History:
    rows = list(ops)

    def column(name: str, kind: type[np.generic]) -> np.ndarray:
        return np.array([getattr(op, name) for op in rows], dtype=kind)

    return History(
        f=column("f", np.uint8),
        outcome=column("outcome", np.uint8),
        process=column("process", np.int32),
        boot=column("boot", np.int32),
        block=column("block", np.int64),
        value=column("value", np.int64),
        start=column("start", np.int64),
        finish=np.array([PENDING if op.finish is None else op.finish for op in rows], dtype=np.int64),
        fences=tuple(fences),
        crashes=tuple(crash if isinstance(crash, Crash) else Crash(crash, crash) for crash in crashes),
        clocks=tuple(clocks),
        fua=np.array([op.value for op in rows if op.fua], dtype=np.int64),
        lost_tails=frozenset(lost_tails),
    )


COLUMNS = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


def differences(a: History, b: History) -> list[str]:
    """Name the columns and marks in which two histories differ; `line` says only where, and is left out."""
    columns = [name for name in COLUMNS if not _equal(getattr(a, name), getattr(b, name))]
    if sorted(a.fua.tolist()) != sorted(b.fua.tolist()):
        columns.append("fua")
    marks = ("fences", "crashes", "clocks", "lost_tails")
    return columns + [name for name in marks if getattr(a, name) != getattr(b, name)]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def atomic(
    seed: int, ops: int, blocks: int, processes: int = 8, info: float = 0.05, closed: bool = False
) -> History:
    """Simulate atomic registers: each operation takes effect at one instant within its interval.

    Indeterminate writes take effect or not; if `closed`, no later than their error, else at any time after.
    Ends with a read of every block. Rows are in order of completion.
    """
    rng = random.Random(seed)
    clock = [rng.randrange(50) for _ in range(processes)]
    events: list[tuple[int, int, Op]] = []
    for number in range(1, ops + 1):
        process = min(range(processes), key=clock.__getitem__)
        start = clock[process] + rng.randrange(1, 20)
        finish = start + rng.randrange(1, 60)
        clock[process] = finish
        block = rng.randrange(blocks)
        point = rng.randint(start, finish)
        if rng.random() < 0.5:
            outcome = INFO if rng.random() < info else OK
            if outcome is INFO:
                late = rng.randrange(start, finish + (0 if closed else 500) + 1)
                point = late if rng.random() < 0.5 else -1
                shown = finish if closed or rng.random() < 0.5 else None
                events.append((point, number, Op(F.WRITE, number, start, shown, block, INFO, 0, process)))
            else:
                events.append((point, number, Op(F.WRITE, number, start, finish, block, OK, 0, process)))
        else:
            events.append((point, number, Op(F.READ, -1, start, finish, block, OK, 0, process)))
    end = max(clock) + 1000
    for block in range(blocks):
        events.append((end + block, ops + block, Op(F.READ, -1, end + block, end + block + 1, block)))
    content = [INITIAL] * blocks
    done: list[Op] = []
    for point, _, op in sorted(events, key=lambda event: event[:2]):
        if op.f == F.READ:
            done.append(op._replace(value=content[op.block]))
        else:
            if point >= 0:
                content[op.block] = op.value
            done.append(op)
    done.sort(key=lambda op: PENDING if op.finish is None else op.finish)
    return history(done)
