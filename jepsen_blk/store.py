"""The store: where runs live on disk, and how a run or a history is found again.

`store/NAME/TIME/` is a run; `store/latest` always names the newest one, replaced in one step so that
a reader never finds it missing.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jepsen_blk.errors import UserError

if TYPE_CHECKING:
    from jepsen_blk.history.record import History
    from jepsen_blk.spec import Deadline

JOURNAL = "history.blk"
SPEC = "spec.toml"
LATEST = "latest"
_MOST_RUNS_A_SECOND = 1000


def new_run(store: Path, name: str) -> Path:
    """Make the directory of a new run, with its logs/, and point `store/latest` at it.

    Raises UserError naming the store when it cannot be written.
    """
    if name == LATEST:
        raise UserError(f"name: {LATEST!r} is the store's link to the newest run; give another name")
    try:
        run = _claim(store / name, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
        (run / "logs").mkdir()
        _point_latest(store, run)
    except OSError as error:
        raise UserError(
            f"store {store}: cannot write there: {error.strerror}; name another one with --store"
        ) from error
    return run


def latest(store: Path) -> Path:
    """Return the newest run; raises UserError when the store has none."""
    link = store / LATEST
    if not link.is_dir():
        raise UserError(f"store {store}: no run yet; run `jepsen-blk test`, or name a store with --store")
    return link.resolve()


def find_run(path: Path) -> Path:
    """Return the run directory that `path` is; raises UserError when it holds no journal."""
    run = path.resolve()
    if not (run / JOURNAL).is_file():
        raise UserError(f"{path}: not a run: it has no {JOURNAL}")
    return run


def read_history(path: Path) -> History:
    """Read the history of a run directory, of a journal (.blk) or of an interchange file (.jsonl).

    Raises UserError when there is no such thing, HistoryError when what it holds is malformed.
    """
    from jepsen_blk.history.interchange import read_jsonl
    from jepsen_blk.history.journal import read_journal

    file = find_run(path) / JOURNAL if path.is_dir() else path
    readers = {".blk": read_journal, ".jsonl": read_jsonl}
    if file.suffix not in readers:
        raise UserError(f"{path}: give a run directory, a journal (.blk) or an interchange file (.jsonl)")
    try:
        return readers[file.suffix](file)
    except OSError as error:
        raise UserError(f"{path}: cannot read the history: {error.strerror}") from error


def deadline_of(path: Path) -> Deadline:
    """Return the effect deadline that the run was judged by; the default for a file that is no run."""
    from jepsen_blk.spec import Spec, load_spec

    spec = path / SPEC
    return load_spec(spec).deadline if spec.is_file() else Spec().deadline


def _claim(parent: Path, stamp: str) -> Path:
    """Make parent/stamp, or parent/stamp-2 and so on when a run of the same second has it."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, _MOST_RUNS_A_SECOND):
        run = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            run.mkdir()
        except FileExistsError:
            continue
        return run
    raise UserError(f"{parent}: {_MOST_RUNS_A_SECOND} runs in one second")


def _point_latest(store: Path, run: Path) -> None:
    scratch = store / f".{LATEST}.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(run.relative_to(store))
    os.replace(scratch, store / LATEST)
