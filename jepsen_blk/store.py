"""The store: where runs live on disk, and how a run is found again.

`store/NAME/TIME/` is a run; `store/latest` always names the newest one, replaced in one step so that
a reader never finds it missing. It is a link, or a file with the run's path where links cannot be made, as
for an ordinary user of Windows.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

from jepsen_blk.errors import UserError

JOURNAL = "history.blk"
LATEST = "latest"
_MOST_RUNS_A_SECOND = 1000


def require_store(store: Path) -> None:
    """Make the store and write to it once, so that a test does not find out after its lab is up.

    Raises UserError naming the store when it cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise _unwritable(store, error) from error


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
        raise _unwritable(store, error) from error
    return run


def latest(store: Path) -> Path:
    """Return the newest run; raises UserError when the store has none."""
    run = named_by(store / LATEST).resolve()
    if not run.is_dir():
        raise UserError(f"store {store}: no run yet; run `jepsen-blk test`, or name a store with --store")
    return run


def named_by(path: Path) -> Path:
    """Return what a path is or, if it is a store's `latest`, what that names."""
    if path.name == LATEST and path.is_file():
        return path.parent / path.read_text(encoding="utf-8")
    return path


def find_run(path: Path) -> Path:
    """Return the run directory that `path` is or names; UserError when it holds no journal."""
    run = named_by(path).resolve()
    if not (run / JOURNAL).is_file():
        raise UserError(f"{path}: not a run: it has no {JOURNAL}")
    return run


def _unwritable(store: Path, error: OSError) -> UserError:
    return UserError(f"store {store}: cannot write there: {error.strerror}; name another one with --store")


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
    try:
        scratch.symlink_to(run.relative_to(store))
    except (OSError, NotImplementedError):
        scratch.write_text(run.relative_to(store).as_posix(), encoding="utf-8")
    os.replace(scratch, store / LATEST)
