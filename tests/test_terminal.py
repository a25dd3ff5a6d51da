"""The terminal says the same on a TTY and in a log file, and treats text of a run as text."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from fabricate import failing_run, passing_run, unknown_run
from rich.console import Console

from jepsen_blk import virtual_time
from jepsen_blk.history.events import Event, read_events
from jepsen_blk.report.terminal import LiveView, describe, print_verdict, show_test, summary_table
from jepsen_blk.report.view import NullView, View
from jepsen_blk.spec import make_spec


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=120, force_terminal=False), out


def shown(view: LiveView) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(view.render())
    return out.getvalue()


def results_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "results.json").read_text())


def test_without_a_tty_every_event_is_one_plain_line(tmp_path):
    console, out = plain()
    clock = Clock()
    view = LiveView(console, clock)
    view.start("t", ())
    clock.now = 1.5
    view.event(Event(0, "fault", "path-loss", "proven", "x", {"proof": "x cannot reach the storage"}))
    view.close()
    assert "   1.50 s  path-loss proven on x: x cannot reach the storage\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_the_rate_is_that_of_the_last_second():
    clock = Clock()
    view = LiveView(plain()[0], clock)
    view.start("t", ())
    clock.now = 2.0
    view.operations(5000)
    assert "5,000 operations   2,500/s" in shown(view)


def test_the_panel_says_what_is_checked_and_what_was_seen():
    view = LiveView(plain()[0], Clock())
    view.start("t", ())
    assert "checked" not in shown(view)
    view.checked(4000, "")
    assert "4,000 checked, no anomaly so far" in shown(view)
    view.checked(4100, "conflict on block 7")
    assert "4,100 checked, conflict on block 7" in shown(view)
    view.unchecked(4200, "the storage lost power")
    assert "4,200 checked, none since the storage lost power" in shown(view)
    view.start("u", ())
    assert "checked" not in shown(view)


def test_the_first_anomaly_is_a_line_too():
    console, out = plain()
    view = LiveView(console, Clock())
    view.start("t", ())
    view.event(Event(0, "checker", "anomaly", "seen", "", {"why": "conflict on block 7"}))
    assert "checker anomaly seen: conflict on block 7\n" in out.getvalue()


def test_steps_show_what_is_done_and_what_is_to_come():
    view = LiveView(plain()[0], Clock())
    view.start("t", ("lab up", "workload", "check"))
    view.phase("lab up")
    view.phase("workload")
    lines = shown(view).splitlines()
    assert any("✓ lab up" in line for line in lines)
    assert any("● workload" in line for line in lines)
    assert any(line.strip() == "check" for line in lines)


def test_a_panel_on_a_tty_is_closed_whatever_was_shown(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    view = LiveView(console, Clock())
    view.start("t", ("a",))
    for event in read_events(failing_run(tmp_path / "run") / "events.jsonl"):
        view.event(event)
    view.finish("fail")
    view.close()
    assert "lost-path-migration" in shown(view)


def test_markup_in_the_text_of_a_run_is_printed_as_it_is():
    console, out = plain()
    view = LiveView(console, Clock())
    view.start("[red]t[/red]", ())
    view.event(Event(0, "fault", "[bold]f", "failed", "x", {"why": "[/] broken [markup"}))
    print_verdict({"verdict": "unknown", "reasons": ["[/nonsense] why"]}, None, console)
    assert "[red]t[/red]" in out.getvalue()
    assert "[/] broken [markup" in out.getvalue()
    assert "[/nonsense] why" in out.getvalue()


@pytest.mark.parametrize(
    ("make", "word"), [(failing_run, "FAIL"), (passing_run, "PASS"), (unknown_run, "UNKNOWN")]
)
def test_the_verdict_is_printed_with_its_reasons_and_migrations(make, word, tmp_path):
    console, out = plain()
    run_dir = make(tmp_path / "run")
    results = results_of(run_dir)
    print_verdict(results, run_dir, console)
    text = " ".join(out.getvalue().split())
    assert word in text
    assert "writes in flight at switch-over" in text
    for part in [*results["reasons"], *(anomaly["text"] for anomaly in results["anomalies"])]:
        assert " ".join(part.split()) in text


def test_what_overlapped_and_what_stayed_indeterminate_is_said_of_all_migrations():
    console, out = plain()
    moves = [
        {"in_flight": 5, "reissued": 2, "overlap": 3, "indeterminate": 4},
        {"in_flight": 4, "reissued": 0, "overlap": 0, "indeterminate": 3},
        {"in_flight": 1, "reissued": 0, "overlap": 1, "indeterminate": None},
        {"in_flight": 2, "reissued": 1},
    ]
    print_verdict({"verdict": "pass", "migrations": moves}, None, console)
    text = " ".join(out.getvalue().split())
    assert "4 migrations; writes in flight at switch-over: 5, 4, 1, 2; re-issued: 3; " in text
    assert "still in flight when the destination's first write came: 4; " in text
    assert "operations left indeterminate: at most 4" in text


def test_a_fault_is_named_with_its_number_since_two_of_a_name_may_stand():
    event = Event(0, "fault", "slow-link", "proven", "x", {"proof": "seen"}, number=2)
    assert str(describe(event)) == "slow-link #2 proven on x: seen"


def test_where_a_run_was_stopped_is_a_note():
    console, out = plain()
    print_verdict({"verdict": "fail", "notes": ["stopped at the first anomaly"]}, None, console)
    assert "note stopped at the first anomaly\n" in out.getvalue()


def test_an_anomaly_that_no_later_read_settled_is_marked_as_undetermined():
    console, out = plain()
    settled = {"kind": "stale-read", "text": "the first", "could_be": []}
    open_still = {"kind": "lost-write", "text": "the second", "could_be": ["stale-read"]}
    print_verdict({"verdict": "fail", "anomalies": [settled, open_still]}, None, console)
    assert "stale-read  the first" in out.getvalue()
    assert "lost-write (undetermined)  the second" in out.getvalue()


def test_the_summary_marks_a_verdict_that_was_not_expected(tmp_path):
    console, out = plain()
    passed = results_of(passing_run(tmp_path / "run"))
    rows = [("control", "pass", passed, 1.0), ("case", "fail", passed, 2.0)]
    console.print(summary_table(rows, {"control": "nothing may be lost"}))
    assert out.getvalue().count("expected") == 1
    assert "expected fail" in out.getvalue()


def test_both_views_are_what_the_controller_expects():
    views: list[View] = [NullView(), LiveView(plain()[0], Clock())]
    for view in views:
        view.start("t", ())
        view.phase("p")
        view.event(Event(0, "lab", "up", "done"))
        view.operations(1)
        view.checked(1, "")
        view.finish("pass")
        view.close()
        view.close()


def test_a_step_of_a_script_says_what_it_did_and_saw():
    data = {"step": "write block=17", "saw": "value 9 was issued on x"}
    event = Event(0, "fault", "choreography", "step", "x", data, number=1)
    assert str(describe(event)) == "choreography #1 step on x: write block=17: value 9 was issued on x"


def test_a_simulated_test_is_stamped_in_its_own_time(tmp_path):
    console, out = plain()
    spec = make_spec({"lab": "sim"})

    async def work(view: LiveView) -> None:
        await asyncio.sleep(3600)
        view.phase("an hour later")
        await asyncio.to_thread(view.operations, 7200)

    with show_test(spec, console) as view:
        virtual_time.run(work(view))
        view.event(Event(0, "fault", "pause", "proven", "x", {}))
    said = out.getvalue()
    assert "   0.00 s  test register\n" in said
    assert "3600.00 s  an hour later\n" in said
    assert "3600.00 s  pause proven on x\n" in said
    assert "2/s" in shown(view)


@pytest.mark.parametrize(
    ("lab", "same"), [("sim", "the same history, byte for byte"), ("local", "the same plan of faults")]
)
def test_a_run_says_the_command_that_repeats_it(tmp_path, lab, same):
    console, out = plain()
    run_dir = failing_run(tmp_path / "my store")
    print_verdict({**results_of(run_dir), "lab": lab}, run_dir, console)
    assert f"again   jepsen-blk replay '{run_dir}'  ({same})" in out.getvalue()
