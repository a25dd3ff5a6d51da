"""The rows of a comparison on disk: each is synced when its run ends, and none is kept in memory.

A comparison that was interrupted, killed, or ran into a full disk goes on from this file: a last line that is
torn is cut off, a damaged one is passed over and its run made again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from jepsen_blk.campaign.rows import Row
from jepsen_blk.errors import UserError

ROWS = "rows.jsonl"
_LOCK = ".lock"


class RowFile:
    """The rows of one comparison's folder, held by this process alone until `close`.

    Raises UserError where the folder cannot be written, or another comparison writes there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ROWS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / _LOCK).open("ab")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._lock.close()
                raise UserError(
                    f"{folder}: another comparison is running there; give another --out"
                ) from error
            self._file = self._open()
        except OSError as error:
            raise UserError(f"{folder}: cannot write there: {error.strerror}; give another --out") from error

    def append(self, row: Row) -> None:
        """Append a row, on disk when this returns; UserError, and no part of it, if it cannot be written."""
        end = self._file.tell()
        try:
            self._file.write(msgspec.json.encode(row) + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise UserError(
                f"{self._path}: cannot write: {error.strerror}; make room, and the same command goes on"
            ) from error

    def read(self) -> Iterator[Row]:
        """Yield every row that can be read."""
        return read_rows(self._path)

    def drop(self, unwanted: Callable[[Row], bool]) -> int:
        """Take rows out, in one step; return how many."""
        scratch, count = self._path.with_suffix(".new"), 0
        with scratch.open("wb") as file:
            for row in self.read():
                if unwanted(row):
                    count += 1
                else:
                    file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        os.replace(scratch, self._path)
        self._file = self._open()
        return count

    def close(self) -> None:
        """Let others have the folder."""
        self._file.close()
        self._lock.close()

    def _open(self) -> BinaryIO:
        """Open for appending, without a torn last line."""
        file = self._path.open("a+b", buffering=0)
        size = file.seek(0, os.SEEK_END)
        file.truncate(_whole_lines(file, size))
        file.seek(0, os.SEEK_END)
        return file


def read_rows(path: Path) -> Iterator[Row]:
    """Yield every row of a file that can be read; none where there is no file."""
    decoder = msgspec.json.Decoder(Row)
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError:
                continue


def _whole_lines(file: BinaryIO, size: int) -> int:
    """Return where the last line that is whole ends."""
    step = 1 << 16
    for begin in range(max(0, size - step), -1, -step):
        file.seek(begin)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
    return 0
