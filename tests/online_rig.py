"""The online checks, fed with operations as the tests of histories write them."""

from __future__ import annotations

from typing import Any

from histories import INFO, Op, history

from jepsen_blk.checker.online import NO_BOOT, OnlineChecker, Operation
from jepsen_blk.checker.windows import WindowChecker
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import PENDING

try:
    from jepsen_blk.checker.compiled.online import CompiledChecker
except ImportError:  # numba is not installed
    IN_WINDOWS = [WindowChecker]
else:
    IN_WINDOWS = [WindowChecker, CompiledChecker]
ALL = [OnlineChecker, *IN_WINDOWS]


def as_row(op: Op, boot: int | None = None) -> Operation:
    finish = PENDING if op.finish is None else op.finish
    return Operation(
        op.f, op.outcome, op.boot if boot is None else boot, op.block, op.value, op.start, finish
    )


def begun(op: Op) -> Op:
    """The operation as it is known while it is in flight."""
    return op._replace(finish=None, outcome=INFO, boot=op.boot if op.outcome == INFO else NO_BOOT)


def feed(checker: Any, ops: list[Op], horizon: int, in_flight: list[Op]) -> list[str]:
    """Feed a window in the form that the checker takes; return the kinds of all alarms, each once."""
    flying = list(map(begun, in_flight))
    if isinstance(checker, OnlineChecker):
        checker.feed(map(as_row, ops), horizon, map(as_row, flying))
    else:
        checker.feed(history(ops), horizon, history(flying))
    return list(dict.fromkeys(alarm.kind for alarm in checker.alarms))


def fed(
    kind: type, *windows: tuple[list[Op], int], in_flight: list[Op] | None = None, at: int = 0
) -> list[str]:
    """Kinds of the alarms after windows of operations, each with its horizon."""
    checker = kind(Deadline.FENCE, open_boots=(0,))
    for number, (ops, horizon) in enumerate(windows):
        found = feed(checker, ops, horizon, (in_flight or []) if number == at else [])
    return found
