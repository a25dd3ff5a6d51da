"""Judging again whatever lies on disk: a run of any age, a bare journal, another tool's history.

A run is judged with all that its directory holds; a file of any form by its operations
alone, since nothing else is known of it; one that a killed tester left open is never a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import FORMS, forms_given, read_history
from jepsen_blk.store import JOURNAL, find_run


def judge_path(path: Path, deadline: Deadline | None = None) -> dict[str, Any]:
    """Return the results of a run directory or of a file in one of the forms of history/formats.py.

    Without `deadline` a run is judged by its own, a file by the default one. "notes" says what was changed
    on reading a file. Raises UserError when there is no such thing, HistoryError when what it holds is
    malformed.
    """
    if path.is_dir():
        from jepsen_blk.judge import judge_run

        return judge_run(find_run(path), deadline)
    if path.suffix not in FORMS:
        known = f"give a run directory, {forms_given(FORMS)}"
        raise UserError(f"{path}: {known if path.exists() else 'no such run or file'}")
    stored = read_history(path)
    results: dict[str, Any] = check(stored.history, deadline or Deadline.FENCE).to_json()
    results["reasons"] = [*results["reasons"], *stored.doubts]
    if stored.doubts and results["verdict"] == "pass":
        results["verdict"] = "unknown"
    if stored.notes:
        results["notes"] = list(stored.notes)
    return results


def parse_deadline(name: str | None) -> Deadline | None:
    """Return the deadline of that name, None for None; raises UserError with the choices."""
    try:
        return None if name is None else Deadline(name)
    except ValueError as error:
        raise UserError(f"--deadline: no deadline {name!r}; there are {', '.join(Deadline)}") from error


def history_file(path: Path) -> Path:
    """Return the file that holds the history of a run directory or is it; raises like `judge_path`."""
    return find_run(path) / JOURNAL if path.is_dir() else path
