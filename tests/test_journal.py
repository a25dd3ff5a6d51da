"""The journal survives a crash at any byte, and never hides damage in its midst."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jepsen_blk.errors import HistoryError, InternalError
from jepsen_blk.history.journal import HEADER, JournalTail, JournalWriter, read_journal
from jepsen_blk.history.record import PENDING, ROW, Crash, Fence, Outcome

_ROW = struct.Struct("<BBHIqqq")


def rows(first: int, count: int, **fields: int) -> bytes:
    made = []
    for i in range(first, first + count):
        row = {
            "f": 1,
            "outcome": 0,
            "process": 3,
            "block": 17,
            "value": i,
            "start": 10 * i,
            "finish": 10 * i + 5,
        }
        made.append(_ROW.pack(*(row | fields).values()))
    return b"".join(made)


def write_journal(path: Path, chunks: int = 3, cut: bool = False) -> list[int]:
    """Write a journal of one boot (`cut`: up to its last rows); return each chunk's offset and the end."""
    writer = JournalWriter(path)
    offsets = []

    def note(fields: dict[str, Any]) -> None:
        offsets.append(path.stat().st_size)
        writer.note(fields)

    note({"note": "open", "run": "r1", "spec": "register"})
    note({"note": "boot", "boot": 0})
    for sequence in range(chunks):
        offsets.append(path.stat().st_size)
        writer.rows(0, sequence, rows(1 + 4 * sequence, 4))
    offsets.append(path.stat().st_size)
    writer.note({"note": "bye", "boot": 0})
    writer.close()
    if cut:
        path.write_bytes(path.read_bytes()[: offsets[-1]])
    return offsets


def test_a_power_loss_is_read_back_and_ends_a_part(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.rows(0, 1, rows(1, 2))
    writer.note({"note": "crash", "earliest": 17, "latest": 19})
    writer.rows(0, 2, rows(3, 2))
    writer.note({"note": "crash", "earliest": 50, "latest": 50})
    writer.close()
    assert read_journal(path).history.crashes == (Crash(17, 19), Crash(50, 50))
    tail = JournalTail(path)
    parts = [tail.read().history for _ in range(3)]
    assert [part.value.tolist() for part in parts] == [[1, 2], [3, 4], []]
    assert [part.crashes for part in parts] == [(Crash(17, 19),), (Crash(50, 50),), ()]
    assert tail.closed


def test_a_power_loss_without_its_times_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.note({"note": "crash", "earliest": 17})
    writer.close()
    with pytest.raises(HistoryError, match="the crash note at byte 0 needs an integer 'latest'"):
        read_journal(path)


def test_a_journal_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    write_journal(path)
    journal = read_journal(path)
    history = journal.history
    assert len(history) == 12
    assert history.value.tolist() == list(range(1, 13))
    assert history.start.tolist() == [10 * i for i in range(1, 13)]
    assert set(history.block) == {17}
    assert history.boot.tolist() == [0] * 12
    assert history.lost_tails == frozenset()
    assert (journal.torn_bytes, journal.closed, journal.run) == (0, True, "r1")
    assert [note["note"] for note in journal.notes] == ["open", "boot", "bye", "close"]


def test_rows_are_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.rows(0, 0, rows(1, 2))
    assert len(read_journal(path).history) == 2
    assert not read_journal(path).closed
    writer.close()
    writer.close()
    assert [note["note"] for note in read_journal(path).notes] == ["close"]


def test_a_journal_torn_at_any_byte_of_its_last_chunk_keeps_all_before(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    offsets = write_journal(path, cut=True)
    whole = path.read_bytes()
    for end in range(offsets[-2], offsets[-1]):
        path.write_bytes(whole[:end])
        journal = read_journal(path)
        assert len(journal.history) == 8
        assert journal.torn_bytes == end - offsets[-2]
        assert journal.history.lost_tails == {0}


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_never_goes_unnoticed(tmp_path: Path, place: float, flip: int) -> None:
    path = tmp_path / "history.blk"
    path.unlink(missing_ok=True)
    offsets = write_journal(path, cut=True)
    data = bytearray(path.read_bytes())
    where = int(place * len(data))
    chunk = max(offset for offset in offsets if offset <= where)
    data[where] ^= flip
    path.write_bytes(data)
    if where - chunk in range(5, 12):
        return  # the header's padding, boot and sequence carry no checksum
    if chunk == offsets[-2] and (where - chunk, flip) != (4, 3):
        assert read_journal(path).torn_bytes
    else:  # kind 1 ^ 3 is kind 2: a whole chunk that is not what it says
        with pytest.raises(HistoryError, match=rf"history\.blk: .*at byte {chunk}\b"):
            read_journal(path)


def test_a_flipped_byte_in_the_middle_names_file_and_offset(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    offsets = write_journal(path)
    data = bytearray(path.read_bytes())
    data[offsets[3] + HEADER.size + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        HistoryError, match=rf"history\.blk: damaged at byte {offsets[3]} \(a wrong checksum\)"
    ):
        read_journal(path)


def test_a_broken_length_in_the_middle_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    offsets = write_journal(path)
    data = bytearray(path.read_bytes())
    data[offsets[2] + 15] = 0x7F
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=f"damaged at byte {offsets[2]} "):
        read_journal(path)


def test_a_resent_chunk_counts_once_and_another_one_of_its_number_stays(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    for payload in (rows(1, 2), rows(1, 2), rows(3, 1)):
        writer.rows(0, 5, payload)
    writer.close()
    assert read_journal(path).history.value.tolist() == [1, 2, 3]


def test_boots_fences_and_lost_tails_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.note({"note": "boot", "boot": 0})
    writer.rows(0, 0, rows(1, 1))
    writer.note({"note": "fence", "boot": 0, "time": 99})
    writer.note({"note": "boot", "boot": 1})
    writer.rows(1, 0, rows(2, 2))
    writer.note({"note": "bye", "boot": 1})
    writer.note({"note": "boot", "boot": 2})
    writer.close()
    history = read_journal(path).history
    assert history.boot.tolist() == [0, 1, 1]
    assert history.fences == (Fence(99, 0),)
    assert history.lost_tails == {0, 2}


def test_outcomes_and_pending_operations_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.rows(0, 0, rows(1, 1, outcome=2, finish=PENDING) + rows(2, 1, f=0, value=-2))
    writer.close()
    history = read_journal(path).history
    assert history.outcome.tolist() == [Outcome.INFO, Outcome.OK]
    assert history.finish[0] == PENDING
    assert history.value[1] == -2


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"f": 3}, "an unknown f"),
        ({"outcome": 3}, "an unknown outcome"),
        ({"finish": 1}, "a finish before its start"),
        ({"value": 0}, "a write of a value below 1"),
        ({"finish": PENDING}, "no finish"),
    ],
)
def test_rows_that_are_no_operations_are_refused_with_their_offset(
    tmp_path: Path, fields: dict[str, int], what: str
) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.rows(0, 0, rows(1, 2))
    begin = path.stat().st_size
    writer.rows(0, 1, rows(3, 3) + rows(6, 1, **fields))
    writer.close()
    offset = begin + HEADER.size + 3 * ROW.itemsize
    with pytest.raises(HistoryError, match=f"byte {offset} has {what}"):
        read_journal(path)


@pytest.mark.parametrize("note", [{"note": "fence", "boot": 0}, {"note": "bye", "boot": "0"}])
def test_a_note_without_its_numbers_is_refused(tmp_path: Path, note: dict[str, Any]) -> None:
    path = tmp_path / "history.blk"
    writer = JournalWriter(path)
    writer.note(note)
    writer.close()
    with pytest.raises(HistoryError, match="needs an integer"):
        read_journal(path)


def test_a_history_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    write_journal(path)
    with pytest.raises(HistoryError, match="already"):
        JournalWriter(path)


def test_half_a_row_is_refused(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "history.blk")
    with pytest.raises(InternalError, match="33 bytes"):
        writer.rows(0, 0, bytes(33))
    with pytest.raises(InternalError, match="note"):
        writer.note({"boot": 1})
    writer.close()


def test_an_empty_journal_is_an_empty_history_and_a_missing_one_an_error(tmp_path: Path) -> None:
    path = tmp_path / "history.blk"
    path.touch()
    assert len(read_journal(path).history) == 0
    with pytest.raises(HistoryError, match="cannot read"):
        read_journal(tmp_path / "none.blk")
