"""Every verdict has a certificate that a small independent program confirms."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import BUSY, STALE, certify, confirm, parts_of, store
from histories import FAIL, INFO, OK, Op, atomic, history, read, write

from jepsen_blk import cli, verify_certificate
from jepsen_blk.certify import write_certificate
from jepsen_blk.checker.certificate import certificate, linearize
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import UserError
from jepsen_blk.history.formats import read_history
from jepsen_blk.history.interchange import write_jsonl
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.record import FOREIGN, PENDING, ROW, TORN, Clock, F, Fence, History
from jepsen_blk.recheck import judge_path

DEADLINES = list(Deadline)
BOOT = 1 << 40


def tiny(rng: random.Random) -> History:
    """Make a few overlapping operations on two blocks, with ties, fences, errors and plausible values."""
    ops = []
    count = rng.randint(1, 10)
    for number in range(1, count + 1):
        start = rng.randint(0, 14)
        finish = start + rng.randint(0, 6)
        block = rng.choice([0, 0, 1])
        if rng.random() < 0.5:
            outcome = rng.choice([OK, OK, OK, INFO, FAIL])
            shown = None if outcome is INFO and rng.random() < 0.5 else finish
            ops.append(write(number, start, shown, block, outcome=outcome, boot=rng.choice([0, 0, 1])))
        else:
            value = rng.choice(
                [0, rng.randint(1, count), rng.randint(1, count), rng.choice([TORN, FOREIGN, 99])]
            )
            ops.append(
                read(
                    value if rng.random() < 0.6 else 0,
                    start,
                    finish,
                    block,
                    outcome=rng.choice([OK, OK, INFO]),
                )
            )
    fences = [Fence(rng.randint(0, 18), rng.randint(0, 1)) for _ in range(rng.randint(0, 2))]
    return history(ops, fences)


@pytest.mark.parametrize("deadline", DEADLINES)
def test_every_verdict_of_small_histories_is_confirmed(
    tmp_path: Path, deadline: Deadline, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(deadline.value)
    verdicts: Counter[str] = Counter()
    for _ in range(400):
        files = certify(tiny(rng), tmp_path, deadline)
        code, line = confirm(files, capsys)
        assert code == 0, (line, files[1].read_text(), files[0].read_text())
        verdicts[parts_of(files[0])[0]["verdict"]] += 1
    assert min(verdicts[verdict] for verdict in ("pass", "fail", "unknown")) > 5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tick", [1, 25])
def test_the_order_of_a_real_register_is_confirmed(
    tmp_path: Path, seed: int, tick: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a coarse clock most stamps are equal to others; that takes precedences away and adds none."""
    closed = seed % 2 == 1
    found = atomic(seed, ops=700, blocks=1 + 5 * (seed % 3), info=0.2, closed=closed)
    known = found.finish != PENDING
    finish = np.where(known, found.finish // tick, PENDING)
    found = replace(found, start=found.start // tick, finish=finish)
    for deadline in DEADLINES if closed else [Deadline.NEVER]:
        assert confirm(certify(found, tmp_path, deadline), capsys)[0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_witnesses_of_a_damaged_register_are_confirmed(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = atomic(seed, ops=1500, blocks=20, info=0.2)
    rng = np.random.default_rng(seed)
    spoiled = rng.choice(np.flatnonzero(found.f == F.READ), 25, replace=False)
    found.value[spoiled] = rng.choice(found.value, 25)
    found.value[spoiled[:2]] = TORN, 987654
    found.value[spoiled[2:12]] = 0
    files = certify(found, tmp_path, Deadline.FENCE)
    assert confirm(files, capsys)[0] == 0
    assert len({part["kind"] for part in parts_of(files[0])[1:]}) > 3


KINDS = {
    "stale-overwrite": STALE,
    "misdirected": [write(1, 0, 5), read(1, 10, 15, 3)],
    "torn": [write(1, 0, 5), read(TORN, 10, 15)],
    "aborted-read": [write(1, 0, 5, outcome=FAIL), read(1, 10, 15)],
    "phantom": [write(1, 0, 5), read(77, 10, 15)],
    "future-read": [read(1, 0, 5), write(1, 10, 15), read(1, 20, 25)],
    "reverted-to-initial": [write(1, 0, 5), read(0, 10, 15)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_confirmed_and_no_other_is_in_its_place(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = certify(history(KINDS[kind]), tmp_path)
    header, *witnesses = parts_of(files[0])
    assert kind in [part["kind"] for part in witnesses]
    assert confirm(files, capsys)[0] == 0
    if kind in ("stale-overwrite", "reverted-to-initial"):
        return  # which name a conflict of writes deserves is no matter of proof
    for wrong in {*KINDS, "split-brain", ""} - {kind}:
        store(files[0], [header, *({**part, "kind": wrong} for part in witnesses if part["kind"] == kind)])
        assert confirm(files, capsys)[0] == 1


def test_the_closing_time_of_an_indeterminate_write_binds_the_verifier_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zombie = [write(1, 0, 5, outcome=INFO), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)]
    files = certify(history(zombie, [Fence(8)]), tmp_path, Deadline.NEVER)
    assert confirm(files, capsys)[0] == 0
    header, *parts = parts_of(files[0])
    for deadline in ("fence", "error"):
        store(files[0], [{**header, "deadline": deadline}, *parts])
        code, line = confirm(files, capsys)
        assert code == 1
        assert "outside its interval" in line


def test_a_fence_at_the_start_of_a_write_leaves_it_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ops = [write(1, 6, None, outcome=INFO), write(2, 10, 20), read(2, 30, 35), read(1, 40, 45)]
    assert confirm(certify(history(ops, [Fence(6)]), tmp_path), capsys)[0] == 0


def test_what_had_no_effect_has_no_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ops = [
        write(1, 0, 5),
        write(2, 1, 6, outcome=FAIL),
        write(3, 2, 7, outcome=INFO),
        read(1, 8, 9),
        read(0, 8, 9, outcome=INFO),
        Op(F.FLUSH, 0, 3, 4),
    ]
    files = certify(history(ops), tmp_path)
    header, part = parts_of(files[0])
    assert part == {"block": 0, "lines": [0, 3], "points": [5, 8]}
    assert confirm(files, capsys)[0] == 0
    for forged in (
        {"lines": [1, 0, 3], "points": [5, 5, 8]},
        {"lines": [4, 0, 3], "points": [8, 8, 8]},
        {"lines": [5, 0, 3], "points": [3, 5, 8]},
    ):
        store(files[0], [header, part | forged])
        code, line = confirm(files, capsys)
        assert code == 1
        assert "no operation of this block that took effect" in line


@pytest.mark.parametrize(
    ("marks", "what"),
    [({"crashes": [10]}, "a power loss"), ({"clocks": [Clock(0, 5)]}, "an uncertain clock")],
)
def test_what_no_single_order_can_confirm_has_no_certificate(
    tmp_path: Path, marks: dict[str, Any], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ops = [write(1, 0, 5), read(1, 6, 7)]
    files = certify(history(ops), tmp_path)
    write_jsonl(history(ops, **marks), files[1])
    with pytest.raises(UserError, match=f"a history with {what} has no certificate"):
        write_certificate(files[1], judge_path(files[1]), files[0])
    code, line = confirm(files, capsys)
    assert code == 1
    assert "has no certificate" in line


def test_lines_are_those_of_the_file_whatever_stands_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = certify(history(STALE), tmp_path)
    lines = files[1].read_text().splitlines()
    files[1].write_text(
        "\n".join(['{"f":"fence","time":3}', "", lines[0], '{"f":"fence","time":9}', *lines[1:]])
    )
    write_certificate(files[1], judge_path(files[1]), files[0])
    assert [op["line"] for op in parts_of(files[0])[1]["ops"]] == [2, 4, 6]
    assert confirm(files, capsys)[0] == 0


@pytest.mark.parametrize("deadline", [Deadline.FENCE, Deadline.ERROR])
@pytest.mark.parametrize("first", [[write(1, 0, 10)], []], ids=["acknowledged", "initial"])
def test_the_witness_of_a_late_zombie_is_confirmed(
    first: list[Op], deadline: Deadline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ops = [*first, write(2, 12, 14, outcome=INFO), read(len(first), 40, 50), read(2, 60, 70)]
    files = certify(history(ops, [Fence(15)]), tmp_path, deadline)
    (part,) = parts_of(files[0])[1:]
    assert [op["line"] for op in part["ops"]] == list(range(len(ops)))
    assert confirm(files, capsys)[0] == 0


def journal(path: Path, rows: list[tuple[int, ...]]) -> Path:
    """Store rows of (f, outcome, process, block, value, start, finish) of boot 1, whose tail is lost."""
    writer = JournalWriter(path)
    writer.note({"note": "boot", "boot": 1})
    writer.rows(1, 1, np.array(rows, dtype=ROW).tobytes())
    writer.close()
    return path


def certify_journal(blk: Path) -> tuple[Path, Path]:
    out, exported = blk.with_name("certificate.jsonl"), blk.with_name("exported.jsonl")
    write_certificate(blk, judge_path(blk), out)
    write_jsonl(read_history(blk).history, exported)
    return out, exported


def test_a_write_that_a_dead_guest_never_reported_has_a_place_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(F.WRITE, OK, 1, 7, BOOT | 1, 100, 110), (F.READ, OK, 1, 7, BOOT | 2, 200, 210)]
    files = certify_journal(journal(tmp_path / "history.blk", rows))
    header, part = parts_of(files[0])
    assert header["lost_tails"] == [1]
    (adopted,) = header["adopted"]
    assert (adopted["line"], adopted["value"], adopted["start"]) == (-1, BOOT | 2, 100)
    assert part == {"block": 7, "lines": [0, -1, 1], "points": [100, 200, 200]}
    assert confirm(files, capsys)[0] == 0
    for forged in (
        {"lost_tails": []},
        {"adopted": []},
        {"adopted": [{**adopted, "start": 99}]},
        {"adopted": [{**adopted, "value": BOOT | 1}]},
        {"adopted": [adopted, {**adopted, "line": -2, "value": BOOT | 1}]},
    ):
        store(files[0], [{**header, **forged}, part])
        assert confirm(files, capsys)[0] == 1


def test_a_witness_shows_the_write_that_was_never_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreported, newer = BOOT | 1, BOOT | 2
    rows = [
        (F.READ, OK, 1, 7, unreported, 50, 60),
        (F.WRITE, OK, 1, 7, newer, 100, 110),
        (F.READ, OK, 1, 7, unreported, 200, 210),
    ]
    files = certify_journal(journal(tmp_path / "history.blk", rows))
    (witness,) = parts_of(files[0])[1:]
    assert -1 in [op["line"] for op in witness["ops"]]
    assert confirm(files, capsys)[0] == 0


def test_a_value_that_was_written_twice_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(F.WRITE, OK, 1, 7, BOOT | 1, 100, 110), (F.WRITE, OK, 2, 8, BOOT | 1, 200, 210)]
    files = certify_journal(journal(tmp_path / "history.blk", rows))
    assert confirm(files, capsys)[0] == 0
    header, witness = parts_of(files[0])
    store(files[0], [header, {**witness, "ops": [witness["ops"][0]] * 2}])
    assert confirm(files, capsys)[0] == 1


def test_the_command_line_certifies_converts_and_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blk = journal(
        tmp_path / "history.blk", [(F.WRITE, OK, 1, 7, BOOT | 1, 0, 1), (F.READ, OK, 1, 7, 0, 5, 6)]
    )
    out, exported = tmp_path / "out", tmp_path / "exported.jsonl"
    assert cli.main(["check", str(blk), "--certificate", str(out)]) == 1
    assert cli.main(["convert", str(blk), str(exported)]) == 0
    assert cli.main(["verify-certificate", str(out), str(exported)]) == 0
    exported.write_text(exported.read_text() + "\n")
    assert cli.main(["verify-certificate", str(out), str(exported)]) == 1
    assert cli.main(["verify-certificate", str(blk), str(exported)]) == 254
    capsys.readouterr()
    assert cli.main(["check", str(blk), "--certificate", str(tmp_path / "no" / "out")]) == 254
    assert "cannot certify" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]\n", "nonsense\n", '{"deadline":"fence"}\n', '{"certificate":1}\n'])
def test_what_is_no_certificate_cannot_be_read(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = certify(history(BUSY), tmp_path)
    files[0].write_text(text)
    assert confirm(files, capsys)[0] == 254
    assert confirm((files[0], tmp_path / "absent"), capsys)[0] == 254


def test_a_long_history_gets_an_order_in_arrays() -> None:
    found = atomic(1, ops=20_000, blocks=50, processes=16, info=0)
    order = linearize(found, Deadline.FENCE)
    assert sorted(order.rows.tolist()) == list(range(len(found)))
    header, *parts = certificate(found, Deadline.FENCE, "pass", "")
    assert header["parts"] == len(parts) == 50


def test_the_verifier_is_small_and_needs_only_the_standard_library(tmp_path: Path) -> None:
    text = Path(verify_certificate.__file__).read_text()
    assert len(text.splitlines()) < 150
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names)
    files = certify(history(BUSY), tmp_path)
    alone = tmp_path / "alone.py"
    alone.write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", str(alone), *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("confirmed: ")
