"""The interchange file: what goes out comes back, and each mistake is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from histories import FAIL, INFO, Op, atomic, differences, history, read, write
from hypothesis import given, settings
from stored import histories

from jepsen_blk.checker.verdict import check
from jepsen_blk.errors import HistoryError
from jepsen_blk.history import interchange
from jepsen_blk.history.interchange import read_jsonl, write_jsonl
from jepsen_blk.history.record import PENDING, Clock, Crash, F, Fence, History

WRITE = {
    "f": "write",
    "process": 3,
    "block": 17,
    "value": 4242,
    "start": 1000,
    "finish": 1500,
    "outcome": "ok",
}


def store(path: Path, *entries: dict[str, Any] | str) -> Path:
    lines = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_the_designs_example_is_read(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        '{"f":"write","process":3,"block":17,"value":4242,"start":1000,"finish":1500,"outcome":"ok","boot":0}',
        '{"f":"read","process":1,"block":17,"value":4242,"start":1600,"finish":1650,"outcome":"ok","boot":0}',
        '{"f":"write","process":2,"block":17,"value":4243,"start":1700,"finish":null,"outcome":"info","boot":0}',
        '{"f":"fence","time":2000,"boot":0}',
    )
    got = read_jsonl(path)
    assert got.f.tolist() == [F.WRITE, F.READ, F.WRITE]
    assert got.finish.tolist() == [1500, 1650, PENDING]
    assert got.fences == (Fence(2000, 0),)
    assert got.line is None
    assert check(got).verdict == "pass"


def test_a_history_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = history(
        [
            *_ops(atomic(1, ops=300, blocks=4)),
            Op(F.FLUSH, 0, 5, 6),
            write(999, 1, 2, outcome=FAIL, boot=2),
            write(998, 1, 2, fua=True),
        ],
        fences=[Fence(7, 1), Fence(9)],
        crashes=[44],
        clocks=[Clock(2, 1000)],
    )
    write_jsonl(made, tmp_path / "h.jsonl")
    assert differences(read_jsonl(tmp_path / "h.jsonl"), made) == []


def _ops(made: History) -> list[Op]:
    columns = (made.f, made.value, made.start, made.finish, made.block, made.outcome, made.boot, made.process)
    return [Op(*(int(value) for value in row)) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]


def test_witnesses_name_lines_of_the_file_though_fences_stand_between(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {"f": "fence", "time": 1},
        WRITE,
        {**WRITE, "value": 4243, "start": 1600, "finish": 1700},
        "",
        {
            "f": "read",
            "process": 1,
            "block": 17,
            "value": 4242,
            "start": 1800,
            "finish": 1900,
            "outcome": "ok",
        },
    )
    (anomaly,) = check(read_jsonl(path)).anomalies
    assert (anomaly.kind, anomaly.ops) == ("lost-write", (1, 2, 4))


def test_reads_that_did_not_succeed_need_no_value_and_flushes_no_block(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {"f": "read", "process": 0, "block": 1, "start": 0, "finish": 5, "outcome": "fail"},
        {"f": "read", "process": 0, "block": 1, "value": None, "start": 0, "finish": None, "outcome": "info"},
        {"f": "flush", "process": 0, "start": 0, "finish": 5, "outcome": "ok"},
    )
    assert read_jsonl(path).f.tolist() == [F.READ, F.READ, F.FLUSH]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({**WRITE, "f": "append"}, "'f' must be read, write, flush, fence, crash or clock, not 'append'"),
        ({**WRITE, "f": ["write"]}, "'f' must be"),
        ({**WRITE, "outcome": "OK"}, "'outcome' must be ok, fail or info, not 'OK'"),
        ({k: v for k, v in WRITE.items() if k != "outcome"}, "'outcome' must be ok, fail or info, not None"),
        ({k: v for k, v in WRITE.items() if k != "block"}, "'block' is missing"),
        ({k: v for k, v in WRITE.items() if k != "finish"}, "'finish' is missing"),
        ({**WRITE, "finish": None}, "'finish' is null but the outcome is ok"),
        ({**WRITE, "finish": 999}, "finish 999 is before start 1000"),
        ({**WRITE, "start": -1}, "'start' must be from 0"),
        ({**WRITE, "start": 1.5}, "'start' must be an integer, not 1.5"),
        ({**WRITE, "process": True}, "'process' must be an integer, not True"),
        ({**WRITE, "value": 0}, "'value' must be from 1"),
        ({**WRITE, "value": 1 << 63}, "'value' must be from 1"),
        ({**WRITE, "f": "read", "value": -4}, "'value' must be from -3"),
        ({**WRITE, "value": 7}, "value 7 was written in line 1 already"),
        ({"f": "fence"}, "'time' is missing"),
        ('{"f":"crash","time":NaN}', "not valid JSON: NaN is no JSON number"),
        ('{"f":"crash","time":1,"note":Infinity}', "not valid JSON: Infinity is no JSON number"),
        ('{"f":"crash","time":1,"time":2}', "not valid JSON: 'time' is given twice"),
        ('{"f":"crash","time":1,"\\u0074ime":1}', "not valid JSON: 'time' is given twice"),
        ('{"f":"crash","time":1e3}', "'time' must be an integer, not 1000.0"),
        ('{"f":"crash","time":1}{"f":"crash","time":2}', "not valid JSON: Extra data"),
        ('{"f":"crash","time":' + "9" * 5000 + "}", "not valid JSON: Exceeds the limit"),
        ('{"f":"crash","time":18446744073709551616}', "'time' must be from 0 to 9223372036854775806, not"),
        ({**WRITE, "value": 8, "process": 2**31}, "'process' must be from 0 to 2147483647"),
        ({**WRITE, "value": 8, "boot": None}, "'boot' must be an integer, not None"),
        ({**WRITE, "f": "read", "value": None}, "'value' is missing though the read is ok"),
        ({k: v for k, v in (WRITE | {"f": "read"}).items() if k != "value"}, "'value' is missing though"),
        ('{"x":' + "[" * 20_000 + "]" * 20_000 + "}", "not valid JSON: nested too deeply"),
        ('{"f":"crash","time":1,"note":"\udcff"}', "not valid JSON: 'utf-8' codec can't decode byte 0xff"),
        ("\ufeff" + json.dumps({**WRITE, "value": 8}), "not valid JSON"),
        ('{"f":"crash","time":"' + "x" * 1000 + '"}', "xxx..."),
        ({"f": "crash", "time": "now"}, "'time' must be an integer"),
        ({"f": "clock", "uncertainty": 5}, "'boot' is missing"),
        ({"f": "clock", "boot": 1}, "'uncertainty' is missing"),
        ({"f": "clock", "boot": 1, "uncertainty": 4 * 10**12}, "'uncertainty' must be from 0 to"),
        ({**WRITE, "fua": 1}, "'fua' must be true or false, not 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, entry: dict[str, Any] | str, what: str) -> None:
    path = tmp_path / "h.jsonl"
    lines = [json.dumps({**WRITE, "value": 7}), entry if isinstance(entry, str) else json.dumps(entry)]
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(HistoryError) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot read"):
        read_jsonl(tmp_path / "none.jsonl")


def test_pending_reads_are_no_evidence(tmp_path: Path) -> None:
    write_jsonl(
        history([write(1, 0, 5), read(0, 6, None, outcome=INFO), read(1, 7, 8)]), tmp_path / "h.jsonl"
    )
    assert check(read_jsonl(tmp_path / "h.jsonl")).verdict == "pass"


@given(histories())
@settings(max_examples=60, deadline=None)
def test_any_history_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: History
) -> None:
    path = tmp_path_factory.mktemp("h") / "h.jsonl"
    write_jsonl(made, path)
    assert differences(read_jsonl(path), made) == []


def numbered(count: int) -> list[bytes]:
    return [json.dumps({**WRITE, "value": value}).encode() for value in range(1, count + 1)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b" \t\r\n \n"])
@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
def test_ends_of_lines_blank_lines_and_chunks_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, chunk_bytes: int
) -> None:
    monkeypatch.setattr(interchange, "_CHUNK_BYTES", chunk_bytes)
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + end.join(numbered(20)) + end)
    got = read_jsonl(path)
    step = end.count(b"\n")
    lines = list(range(20)) if got.line is None else got.line.tolist()
    assert lines == list(range(0, 20 * step, step))
    assert got.value.tolist() == list(range(1, 21))


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
@pytest.mark.parametrize("bad", [1, 2, 13, 40])
def test_of_several_mistakes_the_first_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, bad: int
) -> None:
    monkeypatch.setattr(interchange, "_CHUNK_BYTES", chunk_bytes)
    lines = numbered(40)
    lines[bad - 1] = lines[bad - 1].replace(b'"finish": 1500', b'"finish": 15')
    lines += [b"{", b"}"]
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryError, match=rf"h\.jsonl:{bad}: finish 15 is before start 1000"):
        read_jsonl(path)


def test_a_value_written_twice_far_apart_is_named_with_both_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interchange, "_CHUNK_BYTES", 300)
    lines = [b"", *numbered(30), b'{"f":"fence","time":1}', *numbered(7)[5:]]
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryError, match=r"h\.jsonl:33: value 6 was written in line 7 already; each write"):
        read_jsonl(path)


def test_a_last_line_that_is_cut_off_is_refused_and_a_missing_newline_is_not(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    whole = b"\n".join(numbered(3))
    path.write_bytes(whole)
    assert len(read_jsonl(path)) == 3
    path.write_bytes(whole[:-10])
    with pytest.raises(HistoryError, match=r"h\.jsonl:3: not valid JSON: .*; the file ends within this line"):
        read_jsonl(path)


def test_an_object_over_several_lines_is_refused_even_where_the_count_of_lines_fits(tmp_path: Path) -> None:
    one, two, three = numbered(3)
    path = tmp_path / "h.jsonl"
    path.write_bytes(one + two + b"\n" + three.replace(b', "block"', b',\n"block"') + b"\n")
    with pytest.raises(HistoryError, match=r"h\.jsonl:1: not valid JSON: Extra data"):
        read_jsonl(path)


def test_keys_of_other_tools_are_ignored(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {**WRITE, "node": "n1", "error": {"kind": "a:b", "at": [{}, {}]}},
        WRITE | {"value": 5},
    )
    assert read_jsonl(path).value.tolist() == [4242, 5]


def test_a_power_loss_of_which_only_bounds_are_known_is_read_and_written_so(tmp_path: Path) -> None:
    crashes = [{"f": "crash", "time": 5, "until": 9}, {"f": "crash", "time": 7}]
    got = read_jsonl(store(tmp_path / "h.jsonl", WRITE, *crashes))
    assert got.crashes == (Crash(5, 9), Crash(7, 7))
    write_jsonl(got, tmp_path / "again.jsonl")
    assert [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()][1:] == crashes
    path = store(tmp_path / "wrong.jsonl", WRITE, {"f": "crash", "time": 9, "until": 5})
    with pytest.raises(HistoryError, match=r"wrong\.jsonl:2: 'until' 5 of the crash is before its time 9"):
        read_jsonl(path)


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    assert len(read_jsonl(store(tmp_path / "h.jsonl"))) == 0


def test_fua_and_flushes_and_a_power_loss_are_read(tmp_path: Path) -> None:
    path = store(
        tmp_path / "h.jsonl",
        {**WRITE, "fua": True},
        {**WRITE, "value": 4243, "fua": False, "start": 1600, "finish": 1700},
        {"f": "crash", "time": 2000},
        {**WRITE, "f": "read", "value": 0, "start": 2100, "finish": 2200},
    )
    got = read_jsonl(path)
    assert (got.fua.tolist(), got.crashes) == ([4242], (Crash(2000, 2000),))
    (anomaly,) = check(got).anomalies
    assert (anomaly.kind, anomaly.ops) == ("durability-loss", (0, 3))


def test_a_request_of_several_blocks_is_a_row_for_each_with_equal_times(tmp_path: Path) -> None:
    def request(f: str, values: list[int], start: int) -> list[dict[str, Any]]:
        times = {"start": start, "finish": start + 500}
        return [{**WRITE, "f": f, "block": 17 + i, "value": v, **times} for i, v in enumerate(values)]

    rows = [*request("write", [1, 2, 3], 1000), *request("write", [4, 5, 6], 2000)]
    whole = store(tmp_path / "whole.jsonl", *rows, *request("read", [4, 5, 6], 3000))
    assert check(read_jsonl(whole)).verdict == "pass"
    mixed = store(tmp_path / "mixed.jsonl", *rows, *request("read", [4, 2, 6], 3000))
    (anomaly,) = check(read_jsonl(mixed)).anomalies
    assert (anomaly.kind, anomaly.block, anomaly.ops) == ("lost-write", 18, (1, 4, 7))
    during = store(
        tmp_path / "during.jsonl", *rows, *request("read", [4, 2, 6], 2200), *request("read", [4, 5, 6], 3000)
    )
    assert check(read_jsonl(during)).verdict == "pass"  # each block is atomic, the request is not
