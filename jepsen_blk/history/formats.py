"""The one place that knows which file suffix is which form of a history.

A form has a reader and, unless only a tester may make it, a writer. Reading says what keeps the
history from being the whole one (`doubts`: it cannot pass) and what was changed on the way (`notes`).
A form that can be read part by part says so too, and what it takes in memory to read and check the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.edn import read_edn, write_edn
from jepsen_blk.history.interchange import jsonl_parts, read_jsonl, write_jsonl, written_again
from jepsen_blk.history.journal import MAGIC, NOT_CLOSED, journal_parts, read_journal
from jepsen_blk.history.parquet import (
    count_rows,
    parquet_parts,
    read_parquet,
    row_written_again,
    write_parquet,
)
from jepsen_blk.history.parts import Part
from jepsen_blk.history.record import History
from jepsen_blk.history.rules import one_of

Notes = tuple[str, ...]
_BLK_TIMES = 3.5
_JSONL_TIMES = 1.2
_PARQUET_ROW_BYTES = 170
"""What reading and checking the whole takes at its peak: in sizes of the file, or in bytes a row."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A history as read, with what is to be said of it."""

    history: History
    doubts: Notes = ()
    notes: Notes = ()


@dataclass(frozen=True, slots=True)
class Large:
    """How a form is read where it does not fit in memory.

    `need_bytes`: about what it takes to read the whole and to check it. `parts` reads about so many rows at
    a time. `written_again` is the error for a value (lines of the second and the first write) in forms in
    which it is one.
    """

    need_bytes: Callable[[Path], int]
    parts: Callable[[Path, int], Iterator[Part]]
    written_again: Callable[[Path, int, int, int], HistoryError] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A form of history: what it is called, and how it is read and written."""

    name: str
    read: Callable[[Path], Stored]
    write: Callable[[History, Path], Notes] | None
    large: Large | None = None


def read_history(path: Path) -> Stored:
    """Read a history by its suffix; raises UserError on another one, HistoryError on a malformed file."""
    if path.suffix not in FORMS:
        raise UserError(f"{path}: give {forms_given(FORMS)}")
    return FORMS[path.suffix].read(path)


def write_history(history: History, path: Path) -> Notes:
    """Write a history by its suffix; returns what the form cannot say and was left out.

    Raises UserError on a suffix that is not written, HistoryError if the file cannot be.
    """
    return _writer(path)(history, path)


def convert(source: Path, target: Path) -> Notes:
    """Read one form and write another; returns what is to be said of both.

    Raises UserError if `target` is there already, and as `read_history` and `write_history` do.
    """
    if target.exists():
        raise UserError(f"{target}: is there already; a history is never overwritten")
    write = _writer(target)
    stored = read_history(source)
    return (*stored.doubts, *stored.notes, *write(stored.history, target))


def forms_given(forms: Mapping[str, Form]) -> str:
    """Return the forms in words, for "give a journal (.blk), ... or ..."."""
    return one_of(f"{form.name} ({suffix})" for suffix, form in forms.items())


def _writer(path: Path) -> Callable[[History, Path], Notes]:
    form = FORMS.get(path.suffix)
    if form is None or form.write is None:
        written = {suffix: form for suffix, form in FORMS.items() if form.write}
        raise UserError(f"{path}: what is written is {forms_given(written)}")
    return form.write


def _read_run_journal(path: Path) -> Stored:
    journal = read_journal(path)
    return Stored(journal.history, () if journal.closed else (NOT_CLOSED,))


def _read_blk(path: Path) -> Stored:
    journal = read_journal(path)
    if not journal.notes and journal.torn_bytes:
        raise _not_a_journal(path)
    return Stored(journal.history, () if journal.closed else (NOT_CLOSED,))


def _blk_parts(path: Path, rows: int) -> Iterator[Part]:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) not in (b"", MAGIC):
            raise _not_a_journal(path)
    return journal_parts(path, rows)


def _not_a_journal(path: Path) -> HistoryError:
    return HistoryError(f"{path}: not a journal: there is no intact chunk in it")


def _read_edn(path: Path) -> Stored:
    history, notes = read_edn(path)
    return Stored(history, notes=notes)


def _write_jsonl(history: History, path: Path) -> Notes:
    write_jsonl(history, path)
    return _tails_left_out(history)


def _write_edn(history: History, path: Path) -> Notes:
    return (*write_edn(history, path), *_tails_left_out(history))


def _write_parquet(history: History, path: Path) -> Notes:
    write_parquet(history, path)
    return ()


def _tails_left_out(history: History) -> Notes:
    if not history.lost_tails:
        return ()
    boots = ", ".join(map(str, sorted(history.lost_tails)))
    return (f"that the last operations of boot {boots} may be missing was left out",)


def _file_bytes(times: float) -> Callable[[Path], int]:
    return lambda path: int(times * path.stat().st_size)


def _parquet_bytes(path: Path) -> int:
    return _PARQUET_ROW_BYTES * count_rows(path)


RUN_JOURNAL = Form("a run's journal", _read_run_journal, None, Large(_file_bytes(_BLK_TIMES), journal_parts))
"""The journal in a run's directory, which may be torn at its very first chunk."""
FORMS = {
    ".blk": Form("a journal", _read_blk, None, Large(_file_bytes(_BLK_TIMES), _blk_parts)),
    ".jsonl": Form(
        "an interchange file",
        lambda path: Stored(read_jsonl(path)),
        _write_jsonl,
        Large(_file_bytes(_JSONL_TIMES), jsonl_parts, written_again),
    ),
    ".edn": Form("a Jepsen history", _read_edn, _write_edn),
    ".parquet": Form(
        "a Parquet file",
        lambda path: Stored(read_parquet(path)),
        _write_parquet,
        Large(_parquet_bytes, parquet_parts, row_written_again),
    ),
}
"""By suffix."""
