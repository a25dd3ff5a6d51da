"""The one place that knows which file suffix is which form of a history.

A form has a reader and, unless only a tester may make it, a writer. Reading says what keeps the
history from being the whole one (`doubts`: it cannot pass) and what was changed on the way (`notes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.edn import read_edn, write_edn
from jepsen_blk.history.interchange import read_jsonl, write_jsonl
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.parquet import read_parquet, write_parquet
from jepsen_blk.history.record import History
from jepsen_blk.history.rules import one_of

Notes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A history as read, with what is to be said of it."""

    history: History
    doubts: Notes = ()
    notes: Notes = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A form of history: what it is called, and how it is read and written."""

    name: str
    read: Callable[[Path], Stored]
    write: Callable[[History, Path], Notes] | None


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


def _read_blk(path: Path) -> Stored:
    journal = read_journal(path)
    if not journal.notes and journal.torn_bytes:
        raise HistoryError(f"{path}: not a journal: there is no intact chunk in it")
    doubts = () if journal.closed else ("the journal was not closed; what it had received was checked",)
    return Stored(journal.history, doubts)


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


FORMS = {
    ".blk": Form("a journal", _read_blk, None),
    ".jsonl": Form("an interchange file", lambda path: Stored(read_jsonl(path)), _write_jsonl),
    ".edn": Form("a Jepsen history", _read_edn, _write_edn),
    ".parquet": Form("a Parquet file", lambda path: Stored(read_parquet(path)), _write_parquet),
}
"""By suffix."""
