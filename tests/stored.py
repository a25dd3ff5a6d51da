"""Any history that a file may hold, for round trips: not a healthy one, only a well-formed one."""

from __future__ import annotations

from histories import INFO, OK, Op, history
from hypothesis import strategies as st

from jepsen_blk.history.record import FOREIGN, PENDING, Clock, Crash, F, Fence, History, Outcome
from jepsen_blk.history.rules import UNCERTAINTY

TIMES = st.integers(0, 50) | st.integers(0, PENDING - 1)
INT32S = st.integers(0, 5) | st.integers(0, 2**31 - 1)
BLOCKS = st.integers(0, 3) | st.integers(0, PENDING - 1)


@st.composite
def histories(draw: st.DrawFn, marks: bool = True) -> History:
    """Draw up to 30 operations and, with `marks`, flushes, FUA, marks, several boots, odd reads."""
    values = draw(st.lists(st.integers(1, 60) | st.integers(1, PENDING - 1), max_size=30, unique=True))
    ops = [draw(_operation(value, marks)) for value in values]
    if not marks:
        return history(ops)
    fences = draw(st.lists(st.builds(Fence, TIMES, INT32S), max_size=3))
    clocks = draw(st.lists(st.builds(Clock, INT32S, st.integers(0, UNCERTAINTY.most)), max_size=2))
    return history(ops, fences=fences, crashes=draw(st.lists(_crashes(), max_size=2)), clocks=clocks)


def _crashes() -> st.SearchStrategy[Crash]:
    return st.tuples(TIMES, TIMES).map(lambda times: Crash(*sorted(times)))


@st.composite
def _operation(draw: st.DrawFn, value: int, marks: bool) -> Op:
    f = draw(st.sampled_from([F.WRITE, F.READ, F.FLUSH] if marks else [F.WRITE, F.READ]))
    outcome = draw(st.sampled_from(list(Outcome)))
    start, finish = sorted((draw(TIMES), draw(TIMES)))
    pending = outcome is INFO and (not marks or draw(st.booleans()))
    seen = draw(st.integers(FOREIGN if marks else 0, 60)) if outcome is OK else 0
    return Op(
        f,
        {F.WRITE: value, F.READ: seen, F.FLUSH: 0}[f],
        start,
        None if pending else finish,
        0 if f is F.FLUSH else draw(BLOCKS),
        outcome,
        draw(INT32S) if marks else 0,
        draw(INT32S),
        marks and f is F.WRITE and draw(st.booleans()),
    )
