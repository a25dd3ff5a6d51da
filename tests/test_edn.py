"""Jepsen's history.edn: what Jepsen prints is read, and each mistake is named with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from histories import FAIL, INFO, OK, Op, atomic, differences, history, read, write
from hypothesis import given, settings
from stored import histories

from jepsen_blk.checker.verdict import check
from jepsen_blk.errors import HistoryError
from jepsen_blk.history.edn import read_edn, write_edn
from jepsen_blk.history.record import PENDING, Clock, Crash, F, Fence, History

JEPSEN = """\
{:type :invoke, :f :write, :value [3 17], :time 10, :process 4, :index 0}
{:type :invoke, :f :read, :value [3 nil], :time 20, :process 1, :index 1}
{:type :info, :f :start-partition, :value [:isolated {"n1" #{"n2"}}], :time 25, :process :nemesis, :index 2}
{:type :ok, :f :write, :value [3 17], :time 30, :process 4, :index 3}
{:type :ok, :f :read, :value [3 nil], :time 40, :process 1, :index 4}
{:type :invoke, :f :write, :value [3 18], :time 50, :process 4, :index 5}
{:type :info, :f :write, :value [3 18], :time 60, :process 4, :index 6, :error [:timeout "a \\"b\\"; c"]}
{:type :invoke, :f :write, :value [5 19], :time 65, :process 6, :index 7}
{:type :fail, :f :write, :value [5 19], :time 70, :process 6, :index 8, :error :connection-refused}
{:type :invoke, :f :read, :value [3 nil], :time 80, :process 1, :index 9}
"""


def store(folder: Path, text: str | bytes) -> Path:
    path = folder / "history.edn"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ops(*values: str, f: str = "write") -> str:
    """An invocation and an :ok for each [key value], one after the other, one a line."""
    lines = []
    for number, value in enumerate(values):
        for kind, time in ((":invoke", number * 10), (":ok", number * 10 + 5)):
            lines.append(f"{{:type {kind}, :f :{f}, :value [{value}], :time {time}, :process 0}}\n")
    return "".join(lines)


def test_a_history_as_jepsen_prints_it_is_read(tmp_path: Path) -> None:
    got, notes = read_edn(store(tmp_path, JEPSEN))
    assert got.f.tolist() == [F.WRITE, F.READ, F.WRITE, F.WRITE, F.READ]
    assert got.outcome.tolist() == [OK, OK, INFO, FAIL, INFO]
    assert got.value.tolist() == [17, 0, 18, 19, 0]
    assert got.block.tolist() == [3, 3, 3, 5, 3]
    assert got.start.tolist() == [10, 20, 50, 65, 80]
    assert got.finish.tolist() == [30, 40, PENDING, 70, PENDING]
    assert got.process.tolist() == [4, 1, 4, 6, 1]
    assert got.line is not None
    assert got.line.tolist() == [0, 1, 5, 7, 9]
    assert notes == ("operations of the nemesis were skipped: 1",)


@pytest.mark.parametrize(
    "text",
    [
        "[" + JEPSEN + "]",
        "(" + JEPSEN.replace("\n", " ") + ")\n",
        JEPSEN.replace("{:type", "#jepsen.history.Op{:type"),
        JEPSEN.replace("\n", "\r\n\r\n"),
        "\ufeff; a comment\n" + JEPSEN.replace("}\n", "} #_{:type :ignored} ; {\n"),
        JEPSEN.replace(", :", ",\n  :"),
        JEPSEN.replace(":type", ':node nil, :ratio 1.5, :at #inst "2024", :c \\a, :s #{}, :type'),
        JEPSEN.replace(" 17]", " 17N]"),
    ],
    ids=["vector", "list", "records", "crlf", "comments", "pretty", "other-values", "bigints"],
)
def test_every_layout_that_clojure_prints_gives_the_same_history(tmp_path: Path, text: str) -> None:
    want, _ = read_edn(store(tmp_path, JEPSEN))
    got, _ = read_edn(store(tmp_path, text))
    assert differences(got, want) == []
    assert np.array_equal(got.line, want.line)  # type: ignore[arg-type]


def test_values_that_several_keys_share_are_numbered_and_judged_by_key(tmp_path: Path) -> None:
    text = ops("1 7", "2 7", "1 8") + ops("1 7", f="read").replace(":time ", ":time 99")
    got, notes = read_edn(store(tmp_path, text))
    assert got.value.tolist() == [1, 2, 3, 1]
    assert "values were numbered from 1 in order of appearance, since two keys share one" in notes[0]
    (anomaly,) = check(got).anomalies
    assert (anomaly.kind, anomaly.block, anomaly.ops) == ("lost-write", 1, (0, 4, 6))


def test_a_written_zero_is_not_what_was_never_written(tmp_path: Path) -> None:
    got, notes = read_edn(
        store(tmp_path, ops("1 0", "1 -5") + ops("1 0", f="read").replace(":time ", ":time 99"))
    )
    assert got.value.tolist() == [1, 2, 1]
    assert "since one is below 1" in notes[0]
    assert check(got).verdict == "fail"


def test_a_read_of_zero_that_nothing_wrote_is_a_phantom(tmp_path: Path) -> None:
    got, _ = read_edn(store(tmp_path, ops("1 5") + ops("1 0", f="read").replace(":time ", ":time 99")))
    assert [anomaly.kind for anomaly in check(got).anomalies] == ["phantom"]


def test_keys_that_are_no_block_numbers_are_numbered(tmp_path: Path) -> None:
    got, notes = read_edn(store(tmp_path, ops(":x 5", '"y" 6', ":x 7")))
    assert got.block.tolist() == [0, 1, 0]
    assert notes == ('keys were numbered as blocks in order of appearance: 0 is :x, 1 is "y"',)


def entry(kind: str, **more: object) -> str:
    fields = {"type": f":{kind}", "f": ":write", "value": "[1 6]", "time": 50, "process": 9} | more
    return "{" + ", ".join(f":{name} {value}" for name, value in fields.items() if value is not None) + "}"


INVOKE = entry("invoke")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("17", 3, "an operation must be a map, not 17"),
        ("[1 2]", 3, "an operation must be a map, not [1 2]"),
        (entry("begin"), 3, ":type must be :invoke, :ok, :fail or :info, not :begin"),
        (
            entry("invoke", f=":cas", value="[1 [2 3]]"),
            3,
            ":f must be :read or :write, not :cas; only a register",
        ),
        (entry("invoke", f=None), 3, ":f must be :read or :write, not nil"),
        (entry("invoke", value="6"), 3, ":value must be [key value], as jepsen.independent makes it, not 6"),
        (
            entry("invoke", value="[1 2 3]"),
            3,
            ":value must be [key value], as jepsen.independent makes it, not",
        ),
        (entry("invoke", value="[nil 3]"), 3, "a key must be an integer, a keyword or a string, not nil"),
        (entry("invoke", value="[1 nil]"), 3, "a write of nil cannot be checked"),
        (entry("invoke", value="[1 2.5]"), 3, "a register's value must be an integer or nil, not 2.5"),
        (entry("invoke", value="[1 true]"), 3, "a register's value must be an integer or nil, not true"),
        (entry("invoke", value="[1 012]"), 3, "a register's value must be an integer or nil, not 012"),
        (
            entry("invoke", value="[1 5]"),
            3,
            "value 5 of key 1 was written in line 1 already; each write of a key",
        ),
        (entry("invoke", time=None), 3, ":time must be an integer, not nil"),
        (entry("invoke", time="1.5e9"), 3, ":time must be an integer, not 1.5e9"),
        (entry("invoke", time=-1), 3, ":time must be from 0 to 9223372036854775806, not -1"),
        (entry("invoke", time=1 << 63), 3, ":time must be from 0 to"),
        (entry("invoke", process=":client"), 3, ":process must be an integer, not :client"),
        (entry("invoke", process=1 << 31), 3, ":process must be from 0 to 2147483647"),
        (
            INVOKE + "\n" + entry("invoke", value="[1 7]"),
            4,
            "process 9 invokes while its operation of line 3 is open",
        ),
        (entry("ok"), 3, "process 9 completes what it has not invoked"),
        (entry("info"), 3, "process 9 completes what it has not invoked"),
        (
            INVOKE + "\n" + entry("ok", value="[2 6]"),
            4,
            ":f or the key differs from its invocation in line 3",
        ),
        (INVOKE + "\n" + entry("ok", f=":read"), 4, ":f or the key differs from its invocation in line 3"),
        (INVOKE + "\n" + entry("ok", value="[1 7]"), 4, "value 7 differs from 6 of its invocation in line 3"),
        (INVOKE + "\n" + entry("ok", time=49), 4, ":time 49 is before 50 of its invocation in line 3"),
        ("{:type :invoke, :f", 3, "not valid EDN: the text ends within a form"),
        ("{:type :invoke, :f}", 3, "not valid EDN: a map with a key that has no value ends here"),
        ("{:type :invoke, :type :ok}", 3, "not valid EDN: a map that has :type twice ends here"),
        ("{:type :invoke,\n :type :ok}", 4, "not valid EDN: a map that has :type twice ends here"),
        ("{:type [:invoke}", 3, "not valid EDN: '}' stands where ']' must"),
        ("\n]", 4, "not valid EDN: ']' closes nothing"),
        ('{:type "invoke', 3, "not valid EDN: a string that does not end"),
        ("{:type " + "[" * 5000 + "]" * 5000 + "}", 3, "not valid EDN: nested too deeply"),
        ("#_", 3, "not valid EDN: the text ends within a form"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = store(tmp_path, ops("1 5") + text)
    with pytest.raises(HistoryError) as caught:
        read_edn(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_follows_or_ends_a_vector_wrongly_is_refused(tmp_path: Path) -> None:
    for text, what in (
        (f"[{ops('1 5')}] 3", "'3' stands after the end"),
        (f"[{ops('1 5')}", "']' is missing"),
    ):
        with pytest.raises(HistoryError, match=rf"history\.edn:3: not valid EDN: .*{what}"):
            read_edn(store(tmp_path, text))


def test_bytes_that_are_no_utf8_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"history\.edn:3: not valid UTF-8: invalid start byte"):
        read_edn(store(tmp_path, ops("1 5").encode() + b"\xff"))
    with pytest.raises(HistoryError, match="cannot read the history: No such file"):
        read_edn(tmp_path / "none.edn")


def test_an_export_is_pairs_in_order_of_time_with_invocations_first(tmp_path: Path) -> None:
    made = history(
        [write(7, 10, 20, 3, process=1), read(7, 20, 30, 3), write(8, 5, None, 4, outcome=INFO, process=2)]
    )
    assert write_edn(made, tmp_path / "h.edn") == ()
    assert (tmp_path / "h.edn").read_text().splitlines() == [
        "{:type :invoke, :f :write, :value [4 8], :time 5, :process 2, :index 0}",
        "{:type :invoke, :f :write, :value [3 7], :time 10, :process 1, :index 1}",
        "{:type :invoke, :f :read, :value [3 nil], :time 20, :process 0, :index 2}",
        "{:type :ok, :f :write, :value [3 7], :time 20, :process 1, :index 3}",
        "{:type :ok, :f :read, :value [3 7], :time 30, :process 0, :index 4}",
    ]


def test_a_process_that_went_on_after_an_info_goes_on_under_another_number(tmp_path: Path) -> None:
    made = history(
        [write(7, 0, 5, outcome=INFO, process=1), write(8, 6, 9, process=1), read(8, 10, 11, process=2)]
    )
    (note,) = write_edn(made, tmp_path / "h.edn")
    assert note.startswith("processes were given other numbers")
    got, _ = read_edn(tmp_path / "h.edn")
    assert got.process.tolist() == [1, 0, 2]
    assert got.outcome.tolist() == [INFO, OK, OK]


def test_an_export_says_what_it_leaves_out_and_refuses_a_crash(tmp_path: Path) -> None:
    made = history([write(7, 0, 5), write(8, 2, 6, boot=1), Op(F.FLUSH, 0, 1, 2)], fences=[Fence(9)])
    assert write_edn(made, tmp_path / "h.edn") == (
        "flushes were left out: 1",
        "fences were left out: 1",
        "boots were left out: all operations are as of one",
        "processes were given other numbers: in Jepsen one has one operation open at a time",
    )
    with pytest.raises(HistoryError, match=r"h\.edn: the history has a crash"):
        write_edn(replace(made, crashes=(Crash(3, 3),)), tmp_path / "h.edn")
    with pytest.raises(HistoryError, match=r"h\.edn: the history has an uncertain clock"):
        write_edn(replace(made, clocks=(Clock(0, 5),)), tmp_path / "h.edn")
    with pytest.raises(HistoryError, match="cannot write the history"):
        write_edn(made, tmp_path / "none" / "h.edn")


def in_order(given: History) -> History:
    """Sort by all that Jepsen's form keeps; processes may differ."""
    names = ("value", "f", "block", "outcome", "finish", "start")
    order = np.lexsort([getattr(given, name) for name in names])
    columns = {name: getattr(given, name)[order] for name in (*names, "boot")}
    return replace(given, **columns, process=np.zeros(len(order), np.int32), line=None)


@given(histories(marks=False))
@settings(max_examples=60, deadline=None)
def test_any_registers_history_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: History
) -> None:
    path = tmp_path_factory.mktemp("h") / "h.edn"
    write_edn(made, path)
    got, _ = read_edn(path)
    assert differences(in_order(got), in_order(made)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_verdict_survives_the_way_through_jepsens_form(tmp_path: Path, seed: int) -> None:
    made = atomic(seed, ops=200, blocks=3)
    write_edn(made, tmp_path / "h.edn")
    got, _ = read_edn(tmp_path / "h.edn")
    assert len(got) == len(made)
    assert check(got).verdict == check(made).verdict == "pass"
