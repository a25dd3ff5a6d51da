"""The journal: a run's history on disk, written before anything else sees it.

A test that dies (a full disk, a killed controller, a crash of the host) must still be checkable, so
each chunk is one write() to an unbuffered file and carries its own checksum. Reading leaves out a
torn last chunk and says how long it was; damage with intact chunks after it is an error, since a
history with a hole in its middle would be judged as if the missing operations never happened.

The layout is in docs/design.md, "Journal".
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jepsen_blk.errors import HistoryError, InternalError
from jepsen_blk.history.parts import PART_ROWS, Part
from jepsen_blk.history.record import PENDING, ROW, Crash, F, Fence, History, Outcome

MAGIC = b"JBH1"
HEADER = struct.Struct("<4sBxHIII")
_CHECKED_BYTES = HEADER.size - 4
"""The header without its checksum."""
ROWS = 1
NOTE = 2
_INTEGERS = {"fence": ("boot", "time"), "crash": ("earliest", "latest"), "boot": ("boot",), "bye": ("boot",)}
"""What a note has to say, as integers."""
NOT_CLOSED = "the journal was not closed; what it had received was checked"

Rows = npt.NDArray[np.void]


class JournalWriter:
    """Appends chunks to a new journal; each call is one write(), in the page cache when it returns.

    Raises HistoryError if the file exists (a history is never overwritten) or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError as error:
            raise HistoryError(f"{path}: a journal is there already; choose another directory") from error
        except OSError as error:
            raise HistoryError(f"{path}: cannot create the journal: {error.strerror}") from error

    def note(self, note: dict[str, Any]) -> None:
        """Append a JSON note; `note["note"]` says what it is (open, boot, fence, crash, bye, close)."""
        if not isinstance(note.get("note"), str):
            raise InternalError(f"a journal note needs a 'note' of type str, not {note!r}")
        self._append(NOTE, 0, 0, json.dumps(note, separators=(",", ":")).encode())

    def rows(self, boot: int, sequence: int, payload: bytes) -> None:
        """Append `payload`, a whole number of 32-byte `ROW`s, as the boot's chunk `sequence`."""
        if not payload or len(payload) % ROW.itemsize:
            raise InternalError(f"{len(payload)} bytes are not a whole number of {ROW.itemsize}-byte rows")
        self._append(ROWS, boot, sequence, payload)

    def close(self) -> None:
        """Write the `close` note (the controller ended in order) and close the file; once is enough."""
        if not self._file.closed:
            self.note({"note": "close"})
            self._file.close()

    def _append(self, kind: int, boot: int, sequence: int, payload: bytes) -> None:
        chunk = pack_chunk(kind, boot, sequence, payload)
        try:
            written = self._file.write(chunk)
        except OSError as error:
            raise HistoryError(f"{self._path}: cannot write the journal: {error.strerror}") from error
        if written != len(chunk):
            raise HistoryError(f"{self._path}: wrote {written} of {len(chunk)} bytes; is the disk full?")


def pack_chunk(kind: int, boot: int, sequence: int, payload: bytes) -> bytes:
    """Return a whole chunk; the checksum covers the header before it too, so that no boot can be mistaken."""
    head = HEADER.pack(MAGIC, kind, boot, sequence, len(payload), 0)[:_CHECKED_BYTES]
    return head + _checksum(head, payload).to_bytes(4, "little") + payload


def _checksum(head: bytes | memoryview, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(head))


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal as read: the history, the notes in order, and how it ended.

    `torn_bytes` is the length of the torn last chunk that was left out; `closed` tells whether the
    controller ended in order; `run` is the run id of the `open` note ("" without one).
    """

    history: History
    notes: tuple[dict[str, Any], ...]
    torn_bytes: int
    closed: bool
    run: str


class _Chunk(NamedTuple):
    offset: int
    kind: int
    boot: int
    sequence: int
    crc: int
    payload: memoryview


def read_journal(path: Path) -> Journal:
    """Read a journal, leaving out a torn last chunk.

    Raises HistoryError, with the byte offset, if a chunk before the end is damaged or holds no
    operations, and if the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HistoryError(f"{path}: cannot read the journal: {error.strerror}") from error
    chunks = list(_chunks(path, data))
    end = chunks[-1].offset + HEADER.size + len(chunks[-1].payload) if chunks else 0
    notes = tuple(_note(path, chunk) for chunk in chunks if chunk.kind == NOTE)
    history = _history(path, _distinct(chunks), notes)
    return Journal(
        history=history,
        notes=notes,
        torn_bytes=len(data) - end,
        closed=any(note["note"] == "close" for note in notes),
        run=next((str(note.get("run", "")) for note in notes if note["note"] == "open"), ""),
    )


class JournalPart(NamedTuple):
    """What a journal had beyond an earlier part: its operations, and its notes in order.

    A power loss ends a part: none of its operations was taken in after the note of it.
    """

    history: History
    notes: tuple[dict[str, Any], ...]


class JournalTail:
    """Reads a journal part by part, also while it grows, and never holds more than a part of it.

    A chunk that is not complete yet is left for later; `closed` tells whether the last part came. `offset`
    is how far the journal has been read, in bytes.
    """

    def __init__(self, path: Path, rows: int = PART_ROWS) -> None:
        self.closed = False
        self.offset = 0
        self._path = path
        self._read_bytes = rows * ROW.itemsize
        self._checksums: dict[int, array[int]] = {}
        self._others: set[tuple[int, int, int]] = set()

    def read(self) -> JournalPart:
        """Return what came since the last call, or as much of it as a part may hold; empty if nothing did.

        Raises HistoryError as read_journal does.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self._read_bytes)
        except OSError as error:
            raise HistoryError(f"{self._path}: cannot read the journal: {error.strerror}") from error
        chunks = list(_until_crash(self._path, _chunks(self._path, data, self.offset)))
        if chunks:
            self.offset = chunks[-1].offset + HEADER.size + len(chunks[-1].payload)
        elif len(data) == self._read_bytes:
            self._read_bytes *= 2
            return self.read()
        notes = tuple(_note(self._path, chunk) for chunk in chunks if chunk.kind == NOTE)
        rows = [chunk for chunk in chunks if chunk.kind == ROWS and not self._repeated(chunk)]
        self.closed = self.closed or any(note["note"] == "close" for note in notes)
        return JournalPart(_history(self._path, rows, notes), notes)

    def _repeated(self, chunk: _Chunk) -> bool:
        """Tell whether this chunk came before; see _distinct. Four bytes a chunk are kept for it."""
        sums = self._checksums.setdefault(chunk.boot, array("I"))
        if chunk.sequence >= len(sums):
            sums.extend([0] * (chunk.sequence - len(sums)))
            sums.append(chunk.crc)
            return False
        key = (chunk.boot, chunk.sequence, chunk.crc)
        if sums[chunk.sequence] == chunk.crc or key in self._others:
            return True
        self._others.add(key)
        return False


def journal_parts(path: Path, rows: int) -> Iterator[Part]:
    """Read a journal in parts of about so many rows; raises HistoryError as `read_journal` does."""
    tail = JournalTail(path, rows)
    lost: set[int] = set()
    ended: set[int] = set()
    line, size = 0, max(1, _size(path))
    while True:
        before = tail.offset
        history, notes = tail.read()
        if tail.offset == before:
            break
        lost |= history.lost_tails
        ended |= _boots(notes, "bye")
        numbers = np.arange(line, line + len(history), dtype=np.int64)
        line += len(history)
        yield Part(replace(history, lost_tails=frozenset(), line=numbers), tail.offset / size)
    last = replace(history, lost_tails=frozenset(lost - ended))
    yield Part(last, 1.0, () if tail.closed else (NOT_CLOSED,))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise HistoryError(f"{path}: cannot read the journal: {error.strerror}") from error


def _boots(notes: tuple[dict[str, Any], ...], kind: str) -> set[int]:
    return {note["boot"] for note in notes if note["note"] == kind}


def _chunks(path: Path, data: bytes, begin: int = 0) -> Iterator[_Chunk]:
    """Yield the intact chunks of what the journal holds from byte `begin` on."""
    view = memoryview(data)
    offset = 0
    while offset < len(data):
        chunk, why = _chunk_at(view, offset)
        if chunk is None:
            if _intact_after(data, offset):
                raise HistoryError(
                    f"{path}: damaged at byte {begin + offset} ({why}) with intact chunks after it; "
                    "restore the file, its history has a hole"
                )
            return
        yield chunk._replace(offset=begin + offset)
        offset += HEADER.size + len(chunk.payload)


def _until_crash(path: Path, chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
    for chunk in chunks:
        yield chunk
        if chunk.kind == NOTE and _note(path, chunk)["note"] == "crash":
            return


def _chunk_at(view: memoryview, offset: int) -> tuple[_Chunk | None, str]:
    """Return the chunk at `offset`, or None and what is wrong with it."""
    if offset + HEADER.size > len(view):
        return None, "an incomplete header"
    magic, kind, boot, sequence, length, crc = HEADER.unpack_from(view, offset)
    if magic != MAGIC or kind not in (ROWS, NOTE):
        return None, "no chunk header"
    payload = view[offset + HEADER.size : offset + HEADER.size + length]
    if len(payload) != length:
        return None, f"a chunk of {length} bytes that ends after {len(payload)}"
    if _checksum(view[offset : offset + _CHECKED_BYTES], payload) != crc:
        return None, "a wrong checksum"
    return _Chunk(offset, kind, boot, sequence, crc, payload), ""


def _intact_after(data: bytes, offset: int) -> bool:
    """Tell a hole from a torn tail: only a hole has an intact chunk somewhere after it."""
    view = memoryview(data)
    place = data.find(MAGIC, offset + 1)
    while place != -1:
        if _chunk_at(view, place)[0] is not None:
            return True
        place = data.find(MAGIC, place + 1)
    return False


def _distinct(chunks: list[_Chunk]) -> list[_Chunk]:
    """Return the row chunks, without repetitions of the same chunk (a resend after a lost ack).

    A repeated sequence number with OTHER rows stays: two copies of one boot are running.
    """
    seen: set[tuple[int, int, int, int]] = set()
    distinct = []
    for chunk in chunks:
        key = (chunk.boot, chunk.sequence, chunk.crc, len(chunk.payload))
        if chunk.kind == ROWS and key not in seen:
            seen.add(key)
            distinct.append(chunk)
    return distinct


def _note(path: Path, chunk: _Chunk) -> dict[str, Any]:
    try:
        note = json.loads(bytes(chunk.payload))
    except ValueError as error:
        raise HistoryError(f"{path}: the note at byte {chunk.offset} is not JSON: {error}") from error
    if not isinstance(note, dict) or not isinstance(note.get("note"), str):
        raise HistoryError(f"{path}: the note at byte {chunk.offset} does not say what it is")
    for key in _INTEGERS.get(note["note"], ()):
        if type(note.get(key)) is not int:
            raise HistoryError(
                f"{path}: the {note['note']} note at byte {chunk.offset} needs an integer {key!r}"
            )
    return note


def _history(path: Path, chunks: list[_Chunk], notes: tuple[dict[str, Any], ...]) -> History:
    for chunk in chunks:
        if len(chunk.payload) % ROW.itemsize:
            raise HistoryError(
                f"{path}: the chunk at byte {chunk.offset} holds {len(chunk.payload)} bytes, "
                f"not a whole number of {ROW.itemsize}-byte rows"
            )
    rows: Rows = np.frombuffer(b"".join(chunk.payload for chunk in chunks), dtype=ROW)
    counts = np.array([len(chunk.payload) // ROW.itemsize for chunk in chunks], dtype=np.int64)
    boots = np.array([chunk.boot for chunk in chunks], dtype=np.int32)
    _validate(path, rows, chunks, counts)
    begun = {int(boot) for boot in boots} | _boots(notes, "boot")
    return History(
        f=rows["f"].copy(),
        outcome=rows["outcome"].copy(),
        process=rows["process"].astype(np.int32),
        boot=np.repeat(boots, counts),
        block=rows["block"].astype(np.int64),
        value=rows["value"].astype(np.int64),
        start=rows["start"].astype(np.int64),
        finish=rows["finish"].astype(np.int64),
        fences=tuple(Fence(note["time"], note["boot"]) for note in notes if note["note"] == "fence"),
        crashes=tuple(Crash(note["earliest"], note["latest"]) for note in notes if note["note"] == "crash"),
        lost_tails=frozenset(begun - _boots(notes, "bye")),
    )


def _validate(path: Path, rows: Rows, chunks: list[_Chunk], counts: npt.NDArray[np.int64]) -> None:
    """Refuse rows that are no operations, naming the byte at which the first one stands."""
    write = rows["f"] == F.WRITE
    wrong = (
        ("an unknown f", rows["f"] > F.FLUSH),
        ("an unknown outcome", rows["outcome"] > Outcome.INFO),
        (
            "no finish though it is not indeterminate",
            (rows["outcome"] != Outcome.INFO) & (rows["finish"] == PENDING),
        ),
        ("a finish before its start", rows["finish"] < rows["start"]),
        ("a write of a value below 1", write & (rows["value"] < 1)),
    )
    for what, mask in wrong:
        if mask.any():
            row = int(mask.argmax())
            ends = np.cumsum(counts)
            chunk = int(np.searchsorted(ends, row, side="right"))
            within = row - int(ends[chunk] - counts[chunk])
            offset = chunks[chunk].offset + HEADER.size + within * ROW.itemsize
            raise HistoryError(
                f"{path}: the row at byte {offset} has {what}; the agent that wrote it is at fault"
            )
