"""What was run of which candidate, on disk as soon as it is known: no candidate is run twice, also tomorrow.

A line for each run, in `state.jsonl` beside the runs themselves. Of those only one is kept, that of the
smallest candidate; the others are deleted once they are judged, so a shrinking takes the room of two tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import mistakes

STATE = "state.jsonl"
RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of a candidate ended; `run` is its directory below the runs."""

    verdict: str
    kinds: tuple[str, ...]
    duration_s: float
    run: str


@dataclass(frozen=True, slots=True)
class Line:
    """A run of a candidate; `confirms` if it was made to say how often the smallest fails."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    candidate: str
    confirms: bool
    verdict: str
    kinds: tuple[str, ...]
    duration_s: float
    run: str
    spec: str

    @property
    def ran(self) -> Ran:
        """How it ended."""
        return Ran(self.verdict, self.kinds, self.duration_s, self.run)


_LINE = TypeAdapter(Line)


class Record:
    """The runs that were made to shrink one run."""

    def __init__(self, folder: Path, lines: Sequence[Line]) -> None:
        self._folder = folder
        self._lines = list(lines)

    @property
    def runs_dir(self) -> Path:
        """The store of the candidates' runs."""
        return self._folder / RUNS

    @property
    def count(self) -> int:
        """How many runs were made."""
        return len(self._lines)

    def of(self, candidate: str, *, confirms: bool = False) -> list[Ran]:
        """Return the runs of a candidate in their order."""
        return [line.ran for line in self._lines if (line.candidate, line.confirms) == (candidate, confirms)]

    def add(self, candidate: str, ran: Ran, spec: str, *, confirms: bool = False) -> None:
        """Store a run; it is on the disk when this returns."""
        line = Line(candidate, confirms, ran.verdict, ran.kinds, ran.duration_s, ran.run, spec)
        with (self._folder / STATE).open("ab") as file:
            file.write(_LINE.dump_json(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(line)

    def path(self, ran: Ran) -> Path:
        """Return the directory of a run, which may be deleted by now."""
        return self.runs_dir / ran.run

    def keep_only(self, ran: Ran) -> None:
        """Delete every run but this one, if this one is there."""
        if self.path(ran).is_dir():
            self._delete_but({ran.run})

    def delete(self, ran: Ran) -> None:
        """Delete a run."""
        shutil.rmtree(self.path(ran), ignore_errors=True)

    def delete_unknown(self) -> None:
        """Delete runs that ended in the middle, with the program."""
        self._delete_but({line.run for line in self._lines})

    def _delete_but(self, kept: set[str]) -> None:
        for run in self.runs_dir.glob("*/*"):
            if not run.parent.is_symlink() and str(run.relative_to(self.runs_dir)) not in kept:
                shutil.rmtree(run, ignore_errors=True)


@contextlib.contextmanager
def open_record(folder: Path) -> Iterator[Record]:
    """Open the record in `folder`, new or as it was left.

    Raises UserError when it cannot be written, is damaged, or is open elsewhere.
    """
    path = folder / STATE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise UserError(f"{path}: cannot write there: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: this run it is being shrunk already; wait for that") from error
        record = Record(folder, _read(path))
        record.delete_unknown()
        try:
            yield record
        finally:
            record.delete_unknown()


def _read(path: Path) -> list[Line]:
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:  # cut off while it was written
        os.truncate(path, len(whole))
    lines = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            lines.append(_LINE.validate_json(line))
        except ValidationError as error:
            why = f"not the state of a shrinking: {mistakes(error)}; delete it to begin anew"
            raise UserError(f"{path}:{number}: {why}") from error
    return lines
