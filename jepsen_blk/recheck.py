"""Judging again whatever lies on disk: a run of any age, a bare journal, another tool's history.

A run is judged with all that its directory holds; a journal or an interchange file by its operations
alone, since nothing else is known of it; one that a killed tester left open is never a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepsen_blk.checker.verdict import check
from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.interchange import read_jsonl
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import History
from jepsen_blk.judge import judge_run
from jepsen_blk.spec import Deadline
from jepsen_blk.store import find_run


def judge_path(path: Path, deadline: Deadline | None = None) -> dict[str, Any]:
    """Return the results of a run directory, a journal (.blk) or an interchange file (.jsonl).

    Without `deadline` a run is judged by its own, a file by the default one. Raises UserError when there
    is no such thing, HistoryError when what it holds is malformed.
    """
    if path.is_dir():
        return judge_run(find_run(path), deadline)
    history, doubts = _read(path)
    results: dict[str, Any] = check(history, deadline or Deadline.FENCE).to_json()
    results["reasons"] = [*results["reasons"], *doubts]
    if doubts and results["verdict"] == "pass":
        results["verdict"] = "unknown"
    return results


def parse_deadline(name: str | None) -> Deadline | None:
    """Return the deadline of that name, None for None; raises UserError with the choices."""
    try:
        return None if name is None else Deadline(name)
    except ValueError as error:
        raise UserError(f"--deadline: no deadline {name!r}; there are {', '.join(Deadline)}") from error


def _read(file: Path) -> tuple[History, tuple[str, ...]]:
    """Return the history, and what keeps it from being the whole one."""
    if file.suffix == ".jsonl":
        return read_jsonl(file), ()
    if file.suffix == ".blk":
        journal = read_journal(file)
        if not journal.notes and journal.torn_bytes:
            raise HistoryError(f"{file}: not a journal: there is no intact chunk in it")
        if not journal.closed:
            return journal.history, ("the journal was not closed; what it had received was checked",)
        return journal.history, ()
    if not file.exists():
        raise UserError(f"{file}: no such run or file")
    raise UserError(f"{file}: give a run directory, a journal (.blk) or an interchange file (.jsonl)")
