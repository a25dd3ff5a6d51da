"""Judging again whatever lies on disk: a run of any age, a bare journal, another tool's history.

A run is judged with all that its directory holds; a journal or an interchange file by its operations
alone, since nothing else is known of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepsen_blk.checker.verdict import check
from jepsen_blk.errors import UserError
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
    result: dict[str, Any] = check(_read(path), deadline or Deadline.FENCE).to_json()
    return result


def parse_deadline(name: str | None) -> Deadline | None:
    """Return the deadline of that name, None for None; raises UserError with the choices."""
    try:
        return None if name is None else Deadline(name)
    except ValueError as error:
        raise UserError(f"--deadline: no deadline {name!r}; there are {', '.join(Deadline)}") from error


def _read(file: Path) -> History:
    if file.suffix == ".blk":
        return read_journal(file).history
    if file.suffix == ".jsonl":
        return read_jsonl(file)
    if not file.exists():
        raise UserError(f"{file}: no such run or file")
    raise UserError(f"{file}: give a run directory, a journal (.blk) or an interchange file (.jsonl)")
