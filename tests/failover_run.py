"""Builds the directory of a run in which a guest hung, was fenced off and started again, and then came back.

Its last write, of BLOCK, was never reported. What the new guest reads of the block before and after it lands
is the matter of the tests; all that can be judged is judged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fabricate import BLOCK, MS, Fabric

from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.record import ROW, F, Outcome
from jepsen_blk.judge import judge_run, write_results
from jepsen_blk.spec import dump_spec, make_spec
from jepsen_blk.stamp import SEQUENCE_BITS

LATE = 301
FENCE_MS, LANDED_MS = 200, 844
NEW_BOOT = 1 << SEQUENCE_BITS

Rows = list[tuple[int, ...]]


def failover_run(run_dir: Path, *, before: int, rewrites: bool = False, lands_ms: float = LANDED_MS) -> Path:
    """Make a run whose block held `before` (0: nothing) behind the fence, and LATE in the end.

    If `rewrites`, the new guest wrote the block before LATE came.
    """
    made = Fabric()
    old, new = _work(made, "x", 0, 10), _work(made, "y", NEW_BOOT, 700)
    if before:
        old.append(_write(made, "x", BLOCK, before, 60))
    if rewrites:
        new.append(_write(made, "y", BLOCK, NEW_BOOT | 90, 780))
    else:
        new.append(_row(F.READ, BLOCK, before, 806, 808))
    made.copy("x", BLOCK, LATE, int((lands_ms - 3) * MS), int(lands_ms * MS))
    new += [_row(F.READ, BLOCK, LATE, 900, 903), _row(F.READ, BLOCK, LATE, 910, 913)]
    made.event(0, "test", "failover", "begin")
    made.event((FENCE_MS - 2) * MS, "failover", "requeue", "begin", "x", destination="y")
    made.event(FENCE_MS * MS, "failover", "requeue", "fence", "x", boot=0)
    made.event(650 * MS, "failover", "requeue", "end", "y", boot=1)
    made.event(1_000 * MS, "test", "failover", "end")
    run_dir.mkdir()
    _store_journal(run_dir / "history.blk", old, new)
    made.store_logs(run_dir)
    (run_dir / "spec.toml").write_text(dump_spec(make_spec({"name": "failover", "seed": 1})))
    write_results(run_dir, judge_run(run_dir))
    return run_dir


def _row(f: F, block: int, value: int, start_ms: int, finish_ms: int) -> tuple[int, ...]:
    return f, Outcome.OK, 3, block, value, start_ms * MS, finish_ms * MS


def _write(made: Fabric, node: str, block: int, value: int, start_ms: int) -> tuple[int, ...]:
    made.copy(node, block, value, (start_ms + 1) * MS, (start_ms + 3) * MS)
    return _row(F.WRITE, block, value, start_ms, start_ms + 4)


def _work(made: Fabric, node: str, boot: int, start_ms: int) -> Rows:
    """Write and read some blocks: what joins the guest's clock to the host's."""
    rows = [_write(made, node, 100 + i, boot | i, start_ms + 5 * i) for i in range(1, 9)]
    return rows + [_row(F.READ, row[3], row[4], row[6] // MS + 1, row[6] // MS + 2) for row in rows]


def _store_journal(path: Path, old: Rows, new: Rows) -> None:
    writer = JournalWriter(path)
    for boot, rows in enumerate((old, new)):
        writer.note({"note": "boot", "boot": boot})
        done = sorted(rows, key=lambda row: row[6])
        writer.rows(boot, 1, np.array(done, dtype=ROW).tobytes())
        writer.note(
            {"note": "fence", "boot": 0, "time": FENCE_MS * MS} if boot == 0 else {"note": "bye", "boot": 1}
        )
    writer.note({"note": "close"})
    writer.close()
