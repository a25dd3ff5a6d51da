"""Forms of a history by their suffix: read, judged and converted alike, and nothing is lost in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from histories import Op, differences, history, read, write

from jepsen_blk.cli import main
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import convert, read_history, write_history
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.record import F, Fence
from jepsen_blk.recheck import judge_path

FINE = history([write(1, 0, 5), read(1, 6, 7)])
STALE = history([write(1, 0, 5), write(2, 6, 9), read(1, 10, 11)])
FORMS = ("jsonl", "edn", "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_judged_alike(tmp_path: Path, form: str) -> None:
    for made, verdict in ((FINE, "pass"), (STALE, "fail")):
        path = tmp_path / f"{verdict}.{form}"
        write_history(made, path)
        assert judge_path(path)["verdict"] == verdict


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_every_form_converts_to_every_other(tmp_path: Path, source: str, target: str) -> None:
    write_history(STALE, tmp_path / f"in.{source}")
    assert main(["convert", str(tmp_path / f"in.{source}"), str(tmp_path / f"out.{target}")]) == 0
    got = read_history(tmp_path / f"out.{target}").history
    assert differences(replace(got, process=STALE.process), STALE) == []


def test_a_conversion_says_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = history([write(1, 0, 5), Op(F.FLUSH, 0, 6, 7)], fences=[Fence(9)], lost_tails=[0])
    write_history(made, tmp_path / "in.parquet")
    assert main(["convert", str(tmp_path / "in.parquet"), str(tmp_path / "out.edn")]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "note: flushes were left out: 1",
        "note: fences were left out: 1",
        "note: that the last operations of boot 0 may be missing was left out",
    ]


def test_an_open_journal_converts_with_its_doubt(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "history.blk")
    journal.note({"note": "open", "run": 1})
    journal.note({"note": "boot", "boot": 0})
    notes = convert(tmp_path / "history.blk", tmp_path / "out.jsonl")
    journal.close()
    assert any("was not closed" in note for note in notes)
    assert any("boot 0 may be missing" in note for note in notes)


def test_notes_of_a_read_stand_in_the_results_and_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h.edn"
    write_history(FINE, path)
    path.write_text(path.read_text() + "{:type :info, :f :kill, :process :nemesis, :time 1}\n")
    assert judge_path(path)["verdict"] == "pass"
    assert main(["check", str(path)]) == 0
    assert "note operations of the nemesis were skipped: 1" in capsys.readouterr().out
    assert main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["operations of the nemesis were skipped: 1"]


def test_what_cannot_be_read_or_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    here = tmp_path / "in.jsonl"
    write_history(FINE, here)
    forms = r"an interchange file \(\.jsonl\), a Jepsen history \(\.edn\) or a Parquet file \(\.parquet\)"
    with pytest.raises(UserError, match=r"in\.csv: give a journal \(\.blk\), " + forms):
        convert(tmp_path / "in.csv", tmp_path / "out.jsonl")
    for name in ("out.blk", "out.csv", "out"):
        with pytest.raises(UserError, match=rf"{name}: what is written is {forms}"):
            convert(here, tmp_path / name)
    with pytest.raises(UserError, match=r"in\.jsonl: is there already; a history is never overwritten"):
        convert(here, here)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
