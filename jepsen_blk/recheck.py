"""Judging again whatever lies on disk: a run of any age, a bare journal, another tool's history.

A run is judged with all that its directory holds; a file of any form by its operations
alone, since nothing else is known of it; one that a killed tester left open is never a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jepsen_blk.capacity import Capacity, Say, check_stored, read_around, require_whole, silent
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import FORMS, RUN_JOURNAL, Form, forms_given
from jepsen_blk.history.record import History
from jepsen_blk.store import JOURNAL, find_run


def judge_path(
    path: Path, deadline: Deadline | None = None, capacity: Capacity | None = None, say: Say = silent
) -> dict[str, Any]:
    """Return the results of a run directory or of a file in one of the forms of history/formats.py.

    Without `deadline` a run is judged by its own, a file by the default one; `capacity` and `say` are those
    of check_stored. "notes" says what was changed on reading a file. Raises UserError when there is no such
    thing, HistoryError when what it holds is malformed, and as check_stored does.
    """
    if path.is_dir():
        from jepsen_blk.judge import judge_run

        return judge_run(find_run(path), deadline, capacity, say)
    checked = check_stored(path, _form_of(path), deadline or Deadline.FENCE, capacity, say)
    results: dict[str, Any] = checked.result.to_json()
    results["reasons"] = [*results["reasons"], *checked.doubts]
    if checked.doubts and results["verdict"] == "pass":
        results["verdict"] = "unknown"
    if checked.notes:
        results["notes"] = list(checked.notes)
    return results


def read_witness(path: Path, results: dict[str, Any], capacity: Capacity | None = None) -> History:
    """Return the history of what `judge_path` judged, or at least what surrounds its first anomaly."""
    return read_around(history_file(path), _form_of(path), results["anomalies"][:1], capacity)


def require_certifiable(path: Path, capacity: Capacity | None = None) -> None:
    """Raise UserError if a run or a file is too large to be certified, before it is judged for hours."""
    require_whole(history_file(path), _form_of(path), capacity)


def _form_of(path: Path) -> Form:
    if path.is_dir():
        return RUN_JOURNAL
    if path.suffix not in FORMS:
        known = f"give a run directory, {forms_given(FORMS)}"
        raise UserError(f"{path}: {known if path.exists() else 'no such run or file'}")
    return FORMS[path.suffix]


def parse_deadline(name: str | None) -> Deadline | None:
    """Return the deadline of that name, None for None; raises UserError with the choices."""
    try:
        return None if name is None else Deadline(name)
    except ValueError as error:
        raise UserError(f"--deadline: no deadline {name!r}; there are {', '.join(Deadline)}") from error


def history_file(path: Path) -> Path:
    """Return the file that holds the history of a run directory or is it; raises like `judge_path`."""
    return find_run(path) / JOURNAL if path.is_dir() else path
