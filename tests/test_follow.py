"""A journal that another process writes is checked while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from histories import atomic

from jepsen_blk import cli
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import HistoryError
from jepsen_blk.follow import Follower, follow_path
from jepsen_blk.history.journal import HEADER, JournalTail, JournalWriter, read_journal
from jepsen_blk.history.record import ROW, F, History


def packed(made: History, low: int, end: int) -> bytes:
    rows = np.zeros(end - low, ROW)
    for name in ROW.names or ():
        rows[name] = getattr(made, name)[low:end]
    return rows.tobytes()


def row(f: F, value: int, start: int, finish: int, block: int = 7) -> bytes:
    rows = np.zeros(1, ROW)
    rows["f"], rows["block"], rows["value"], rows["start"], rows["finish"] = f, block, value, start, finish
    return rows.tobytes()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    journal = JournalWriter(tmp_path / "history.blk")
    journal.note({"note": "open", "run": 1, "spec": "register"})
    journal.note({"note": "boot", "boot": 0})
    yield journal
    journal.close()


def test_a_growing_journal_is_followed_to_its_end(tmp_path: Path, writer: JournalWriter) -> None:
    made = atomic(1, ops=500, blocks=4, info=0)
    lines: list[str] = []
    chunks = iter(range(0, len(made), 60))

    def wait() -> None:
        low = next(chunks, None)
        if low is None:
            writer.note({"note": "bye", "boot": 0})
            writer.close()
        else:
            writer.rows(0, 1 + low // 60, packed(made, low, min(low + 60, len(made))))

    follow_path(tmp_path / "history.blk", None, lines.append, wait)
    assert len(lines) > 9
    assert lines[-1] == f"{len(made)} operations checked, 4 blocks, no anomaly so far"


def test_following_stops_at_the_first_anomaly_though_the_journal_goes_on(
    tmp_path: Path, writer: JournalWriter
) -> None:
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90) + row(F.WRITE, 2, 100, 200))
    waits = iter((row(F.READ, 2, 300, 310), row(F.READ, 1, 400, 410)))
    lines: list[str] = []
    follow_path(
        tmp_path / "history.blk", None, lines.append, lambda: writer.rows(0, 2 + len(lines), next(waits))
    )
    assert lines[-1] == "4 operations checked, 1 blocks, conflict on block 7"
    writer.close()


def test_an_operation_longer_than_the_lag_is_judged_from_the_beginning(
    tmp_path: Path, writer: JournalWriter
) -> None:
    follower = Follower(tmp_path / "history.blk", Deadline.FENCE, lag_ns=10)
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90) + row(F.WRITE, 2, 100, 200) + row(F.READ, 2, 300, 310))
    assert follower.step()
    writer.rows(0, 2, row(F.READ, 1, 95, 400))  # began before 2 did: it may return 1, which is forgotten
    while follower.step():
        pass
    assert not follower.ended
    assert follower.lag_ns == 40
    assert follower.progress().startswith("4 operations checked")
    writer.rows(0, 3, row(F.READ, 1, 390, 410))
    while follower.step() and not follower.ended:
        pass
    assert follower.ended
    writer.close()


def test_following_checks_nothing_beyond_a_power_loss_and_says_so(
    tmp_path: Path, writer: JournalWriter
) -> None:
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90) + row(F.WRITE, 2, 100, 200) + row(F.READ, 2, 300, 310))
    lines: list[str] = []
    lost = row(F.READ, 1, 600, 610)  # what was not flushed may be gone: no conflict

    def lose_power() -> None:
        writer.note({"note": "crash", "earliest": 400, "latest": 500})
        writer.rows(0, 2, lost)

    def end() -> None:
        writer.rows(0, 3, lost)
        writer.close()

    waits = iter((lose_power, lambda: writer.rows(0, 4, lost), end))
    follow_path(tmp_path / "history.blk", None, lines.append, lambda: next(waits)())
    checked = "3 operations checked, 1 blocks, no anomaly"
    until = "until the storage lost power; the rest is judged when the run is over"
    assert lines == [f"{checked} so far", f"{checked} {until}"]


def test_an_anomaly_from_before_a_power_loss_is_found(tmp_path: Path, writer: JournalWriter) -> None:
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90) + row(F.WRITE, 2, 100, 200) + row(F.READ, 2, 300, 310))
    writer.rows(0, 2, row(F.READ, 1, 320, 330))
    writer.note({"note": "crash", "earliest": 400, "latest": 500})
    follower = Follower(tmp_path / "history.blk", Deadline.FENCE)
    follower.catch_up()
    assert follower.ended
    assert follower.progress() == "4 operations checked, 1 blocks, conflict on block 7"
    writer.close()


def test_the_verb_follows_and_then_judges(
    tmp_path: Path, writer: JournalWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90) + row(F.READ, 1, 100, 110))
    writer.note({"note": "bye", "boot": 0})
    writer.close()
    assert cli.main(["check", str(tmp_path / "history.blk"), "--follow", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "2 operations checked, 1 blocks, no anomaly so far\n"
    assert '"verdict": "pass"' in out
    (tmp_path / "other.jsonl").touch()
    assert cli.main(["check", str(tmp_path / "other.jsonl"), "--follow"]) == 254


def test_the_tail_of_a_journal_is_what_the_whole_has_however_it_is_cut(
    tmp_path: Path, writer: JournalWriter
) -> None:
    for sequence in (1, 2, 2, 3):
        writer.rows(0, sequence, row(F.WRITE, sequence, 10 * sequence, 10 * sequence + 5))
    writer.close()
    data = (tmp_path / "history.blk").read_bytes()
    growing = tmp_path / "growing.blk"
    growing.touch()
    tail, values = JournalTail(growing), []
    for end in range(1, len(data) + 1):
        growing.write_bytes(data[:end])
        values += tail.read().history.value.tolist()
        assert tail.closed == (end == len(data))
    assert values == read_journal(growing).history.value.tolist() == [1, 2, 3]
    tail, values = JournalTail(growing, rows=1), []
    while not tail.closed:
        values += tail.read().history.value.tolist()
    assert values == [1, 2, 3]


def test_damage_in_the_midst_of_a_followed_journal_is_an_error(tmp_path: Path, writer: JournalWriter) -> None:
    writer.rows(0, 1, row(F.WRITE, 1, 0, 90))
    begin = (tmp_path / "history.blk").stat().st_size
    writer.rows(0, 2, row(F.WRITE, 2, 100, 190))
    tail = JournalTail(tmp_path / "history.blk")
    tail.read()
    at = (tmp_path / "history.blk").stat().st_size
    writer.rows(0, 3, row(F.WRITE, 3, 200, 290))
    writer.close()
    data = bytearray((tmp_path / "history.blk").read_bytes())
    data[at + HEADER.size] ^= 1
    (tmp_path / "history.blk").write_bytes(data)
    assert begin < at
    with pytest.raises(HistoryError, match=f"damaged at byte {at} "):
        tail.read()
