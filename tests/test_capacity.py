"""Files of every form end in the same results, whole or in windows from disk; what cannot be done is said."""

from __future__ import annotations

import json
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fabricate import failing_run, passing_run
from histories import differences, flush, history, read, write
from test_large import any_history, stale_in_each

from jepsen_blk import cli
from jepsen_blk.capacity import Capacity
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import HistoryError, UserError
from jepsen_blk.history.formats import FORMS, read_history, write_history
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.parts import Part
from jepsen_blk.history.record import ROW, F, History
from jepsen_blk.history.rows import concatenate, lines, merge_marks, select
from jepsen_blk.judge import judge_run
from jepsen_blk.recheck import judge_path, read_witness, require_certifiable
from jepsen_blk.report.witness_file import write_witness

SUFFIXES = (".blk", ".jsonl", ".parquet")
ROOMY = Capacity(1 << 40)
GIB = 1 << 30


def tight(path: Path, rows: int) -> Capacity:
    """What a file does not fit in, though the operations of its failing blocks do."""
    large = FORMS[path.suffix].large
    assert large is not None
    return Capacity(max(GIB, large.need_bytes(path)), rows)


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no history be small enough to be read whole, unless there is more than a GiB."""
    monkeypatch.setattr(Capacity, "holds", lambda self, _need: self.available_bytes > GIB)


def store(made: History, path: Path) -> Path:
    if path.suffix != ".blk":
        write_history(made, path)
        return path
    writer = JournalWriter(path)
    writer.note({"note": "open", "run": 1})
    for fence in made.fences:
        writer.note({"note": "fence", "boot": fence.boot, "time": fence.time_ns})
    cuts = [0, *(np.flatnonzero(np.diff(made.boot)) + 1).tolist(), len(made)]
    for sequence, (low, end) in enumerate(pairwise(cuts)):
        packed = np.zeros(end - low, ROW)
        for name in ROW.names or ():
            packed[name] = getattr(made, name)[low:end]
        for at in range(0, end - low, 3):
            writer.rows(int(made.boot[low]), 100 * sequence + at, packed[at : at + 3].tobytes())
    for boot in set(made.boot.tolist()) - made.lost_tails:
        writer.note({"note": "bye", "boot": boot})
    writer.close()
    return path


def storable(seed: int, suffix: str) -> History:
    """A history as the form can say it: JSONL and Parquet refuse values written twice, journals clocks."""
    made = any_history(seed)
    if suffix == ".blk":
        made = History(**{name: getattr(made, name) for name in (*ROW_COLUMNS, "fences", "lost_tails")})
        return made if int(made.block.max(initial=0)) < 2**32 else storable(seed + 1000, suffix)
    writes = made.value[made.f == F.WRITE]
    return made if len(set(writes.tolist())) == len(writes) else storable(seed + 1000, suffix)


ROW_COLUMNS = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_in_windows_has_the_results_of_the_file_in_memory(tmp_path: Path, suffix: str) -> None:
    verdicts = set()
    for seed in range(25):
        path = store(storable(seed, suffix), tmp_path / f"h{seed}{suffix}")
        for deadline in Deadline:
            expected = judge_path(path, deadline, ROOMY)
            assert judge_path(path, deadline, tight(path, rows=1 + seed)) == expected, seed
            verdicts.add(expected["verdict"])
    assert verdicts == {"pass", "fail", "unknown"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_the_parts_of_a_file_are_the_whole_of_it(tmp_path: Path, suffix: str, rows: int) -> None:
    large = FORMS[suffix].large
    assert large is not None
    for seed in range(8):
        path = store(storable(seed, suffix), tmp_path / f"h{seed}{suffix}")
        whole = read_history(path).history
        parts: list[Part] = list(large.parts(path, rows))
        histories = [part.history for part in parts]
        marks = reduce(merge_marks, histories, histories[0])
        together = concatenate([*histories, select(marks, marks.block[:0])])
        assert differences(together, merge_marks(whole, whole)) == []
        assert lines(together).tolist() == lines(whole).tolist()
        assert parts[-1].share == 1
        assert len(whole) < 50 or rows > 4 or len(parts) > 3


def test_an_empty_file_is_unknown_either_way(tmp_path: Path) -> None:
    for suffix in (".blk", ".jsonl"):
        path = tmp_path / f"h{suffix}"
        path.touch()
        results = judge_path(path, None, tight(path, 1))
        assert results == judge_path(path, None, ROOMY)
        assert results["verdict"] == "unknown"


def test_an_open_journal_has_its_doubt_and_its_lost_tail(tmp_path: Path) -> None:
    path = store(history([write(1, 0, 5), read(2, 10, 15)], lost_tails=[0]), tmp_path / "h.blk")
    path.write_bytes(path.read_bytes()[:-5])
    results = judge_path(path, None, tight(path, 1))
    assert results == judge_path(path, None, ROOMY)
    assert results["reasons"][-1] == "the journal was not closed; what it had received was checked"


@pytest.mark.parametrize("make", [failing_run, passing_run])
def test_a_run_with_a_large_journal_is_judged_as_a_small_one(tmp_path: Path, make: type) -> None:
    run = make(tmp_path / "run")
    results = judge_run(run, capacity=Capacity(GIB, 500))
    assert results == judge_run(run, capacity=ROOMY)
    assert results["workload"]["writes"] > 0


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_value_written_twice_is_refused_in_the_same_words(tmp_path: Path, suffix: str) -> None:
    ops = [
        read(0, 0, 2),
        write(5, 3, 5),
        write(6, 10, 15),
        write(7, 15, 17),
        write(5, 20, 25),
        write(6, 30, 35),
    ]
    path = store(history(ops), tmp_path / f"h{suffix}")
    for capacity in (ROOMY, *(Capacity(GIB, rows) for rows in (1, 2, 6))):
        with pytest.raises(HistoryError) as raised:
            judge_path(path, None, capacity)
        place = (":5:", "line 2") if suffix == ".jsonl" else (": row 4:", "row 1")
        assert str(raised.value) == (
            f"{path}{place[0]} value 5 was written in {place[1]} already; each write needs its own"
        )


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_mistake_in_a_later_part_is_told_with_its_place(tmp_path: Path, suffix: str) -> None:
    path = store(
        history([write(n, 10 * n, 10 * n + 5 - 9 * (n == 7)) for n in range(1, 9)]), tmp_path / f"h{suffix}"
    )
    with pytest.raises(HistoryError) as whole:
        judge_path(path, None, ROOMY)
    with pytest.raises(HistoryError) as windows:
        judge_path(path, None, Capacity(GIB, 2))
    assert str(windows.value) == str(whole.value)


def test_what_is_no_journal_and_what_is_not_there_are_told_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "h.blk"
    path.write_bytes(b"something else")
    for capacity in (ROOMY, Capacity(GIB, 1)):
        with pytest.raises(HistoryError, match="not a journal"):
            judge_path(path, None, capacity)
        for suffix in SUFFIXES:
            with pytest.raises(HistoryError, match=r"none.*: cannot read the history: .*No such file"):
                judge_path(tmp_path / f"none{suffix}", None, Capacity(GIB, 1))


def test_a_power_loss_is_judged_whole_if_that_fits_and_refused_if_not(tmp_path: Path) -> None:
    ops = [write(1, 0, 5), flush(6, 9), write(2, 10, 15), read(0, 200, 205)]
    path = store(history(ops, crashes=[100]), tmp_path / "h.jsonl")
    assert judge_path(path, None, Capacity(GIB, 1)) == judge_path(path, None, ROOMY)
    with pytest.raises(UserError, match=r"h\.jsonl: a history with a power loss is checked whole, which"):
        judge_path(path, None, Capacity(10, 1))


def test_a_witness_is_drawn_from_what_surrounds_it(tmp_path: Path) -> None:
    path = store(stale_in_each(20), tmp_path / "h.jsonl")
    results = judge_path(path, None, Capacity(GIB, 5))
    drawn = []
    for name, capacity in (("whole", ROOMY), ("around", Capacity(GIB, 5))):
        found = read_witness(path, results, capacity)
        write_witness(found, results, tmp_path / f"{name}.dot")
        drawn.append((tmp_path / f"{name}.dot").read_text())
    assert drawn[0] == drawn[1]
    assert len(found) == 3


def test_a_certificate_of_more_than_fits_is_refused(tmp_path: Path) -> None:
    path = store(stale_in_each(3), tmp_path / "h.jsonl")
    require_certifiable(path, Capacity(GIB))
    with pytest.raises(UserError, match=r"h\.jsonl: a certificate is made of the whole history, which takes"):
        require_certifiable(path, Capacity(10))


@pytest.fixture
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capacity, "of_machine", classmethod(lambda cls: cls(GIB, 10)))


@pytest.mark.usefixtures("_small_machine")
def test_people_are_told_how_far_a_long_check_is_and_programs_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store(stale_in_each(20), tmp_path / "h.jsonl")
    assert cli.main(["check", str(path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{path}: larger than memory, pass 1: ")
    assert {line.split("pass ")[1][0] for line in said} == {"1", "2", "3"}
    assert cli.main(["check", str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["ops"] == 60


@pytest.mark.usefixtures("_small_machine")
def test_what_cannot_be_written_is_refused_before_a_long_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(stale_in_each(20), tmp_path / "h.jsonl")
    assert cli.main(["check", str(path), "--witness", "w.gif"]) == 254
    monkeypatch.setattr(Capacity, "of_machine", classmethod(lambda cls: cls(10)))
    assert cli.main(["check", str(path), "--certificate", str(tmp_path / "c")]) == 254
    witness, certificate = capsys.readouterr().err.splitlines()
    assert witness.endswith("a witness is written as .dot, .svg or .png")
    assert "a certificate is made of the whole history" in certificate


def test_the_machine_says_how_much_memory_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    available = Capacity.of_machine().available_bytes
    monkeypatch.setattr("jepsen_blk.capacity._MEMINFO", tmp_path / "none")
    assert 2**20 < available <= Capacity.of_machine().available_bytes
