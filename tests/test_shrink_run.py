"""`jepsen-blk shrink` from a run on the disk to the file, with a lab that has no hypervisor."""

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from agent_rig import WAIT_S
from command_line import only_line
from command_line import run as run_program
from fake_lab import FakeLab, PreparedFakeLab
from histories import read, write
from quiet_fault import Quiet
from shrink_rig import step

from jepsen_blk import controller, doctor
from jepsen_blk.cli import main
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import UserError
from jepsen_blk.shrink import candidate
from jepsen_blk.shrink.subject import Begun, load_subject, played
from jepsen_blk.spec import Spec, load_spec, make_spec
from nemesis.catalogue import FAULTS
from nemesis.fault import NotProven, Stage
from nemesis.plan import write_plan
from nemesis.schedule import make_plan

HEALTHY = (write(1, 0, 90, 7), write(2, 100, 200, 7), read(2, 300, 310, 7))
STALE = read(1, 400, 410, 7)


class Harmful(Quiet):
    """A fault after which a block holds what it held before."""

    name = "harmful"

    async def inject(self, stage: Stage) -> None:
        assert isinstance(stage.lab, FakeLab)
        stage.lab.send(STALE)


@dataclass
class Unproven(Quiet):
    """A fault that is never seen to work."""

    name = "unproven"

    async def prove(self, stage: Stage) -> str:
        raise NotProven("nothing was seen")


@pytest.fixture(autouse=True)
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare(spec: Spec) -> PreparedFakeLab:
        (tmp_path / "x").unlink(missing_ok=True)
        return PreparedFakeLab(tmp_path, HEALTHY)

    for fault in (Quiet, dataclass(Harmful), Unproven):
        monkeypatch.setitem(FAULTS, fault.name, fault)
    monkeypatch.setattr(controller, "prepare_lab", prepare)
    monkeypatch.setattr(candidate, "ALONE_S", 0.01)
    monkeypatch.setattr(doctor, "PACKAGES", {})


def first_run(folder: Path, *faults: str | dict[str, Any], **spec: Any) -> Path:
    async def test() -> Outcome:
        async with asyncio.timeout(WAIT_S):
            named = [{"fault": fault} if isinstance(fault, str) else fault for fault in faults]
            given = {"nemesis": [{"after_s": 0, **fault} for fault in named], **spec}
            return await run_test(make_spec({"name": "t", **given}), folder / "store")

    return asyncio.run(test()).run_dir.resolve()


def faults(spec: Spec) -> list[str]:
    return [item.step.fault for item in make_plan(spec).dated]


def test_a_run_is_shrunk_to_its_one_harmful_fault_and_the_file_fails_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = first_run(tmp_path, "quiet", "quiet", "harmful", "quiet")
    assert main(["shrink", str(run), "--attempts", "1", "--confirm", "1"]) == 0
    said = capsys.readouterr().out
    assert "fails 1 of 1 runs" in said
    assert faults(load_spec(run / "shrunk.toml")) == ["harmful"]
    assert main(["test", str(run / "shrunk.toml"), "--store", str(tmp_path / "again")]) == 1
    assert (tmp_path / "store/latest").resolve() == run


def test_the_newest_run_is_shrunk_into_the_file_that_is_named(tmp_path: Path):
    first_run(tmp_path, "harmful")
    given = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "least.toml")]
    assert main(["shrink", *given, "--attempts", "1", "--confirm", "0"]) == 0
    assert faults(load_spec(tmp_path / "least.toml")) == ["harmful"]


def test_what_is_tried_first_ends_with_the_fault_at_the_first_anomaly(tmp_path: Path):
    run = first_run(tmp_path, "quiet", "harmful", "quiet", "quiet")
    lines = (run / "events.jsonl").read_text().splitlines()
    lines = [
        line for line in lines if '"checker"' not in line
    ]  # whenever it was seen, in this test it is here
    at = next(number for number, line in enumerate(lines) if json.loads(line)["number"] == 3)
    seen = {"time_ns": 0, "source": "checker", "name": "anomaly", "phase": "seen"}
    (run / "events.jsonl").write_text("\n".join([*lines[:at], json.dumps(seen), *lines[at:], ""]))
    tried = [
        (faults(form.candidate.spec()), form.candidate.rest.stop_on_fail) for form in load_subject(run).forms
    ]
    assert tried == [(["quiet", "harmful"], True), (["quiet", "harmful", "quiet", "quiet"], False)]


def test_what_did_not_come_during_an_unproven_fault_is_not_tried(tmp_path: Path):
    during = {
        "kind": "during",
        "fault": {"fault": "unproven", "after_s": 0},
        "items": [{"fault": "quiet", "after_s": 0}],
    }
    items = [during, {"fault": "harmful", "after_s": 0}]
    run = first_run(tmp_path, nemesis=[], schedule={"kind": "sequence", "items": items})
    whole = load_subject(run).forms[-1].candidate
    assert [(step.fault, step.during) for step in whole.steps] == [("unproven", ()), ("harmful", ())]


def test_only_what_was_begun_is_taken_from_the_plan():
    steps = (
        step("pause"),
        step("hold"),
        step("slow-storage", 0.3, step("pause"), step("migrate")),
        step("hold"),
    )
    begun = [Begun(1, 0, "hold"), Begun(2, 0, "slow-storage"), Begun(3, 2, "migrate")]
    assert played(steps, begun) == (steps[1], step("slow-storage", 0.3, step("migrate")))


def test_a_plan_in_which_what_was_begun_is_not_found_is_taken_whole():
    steps = (step("pause"), step("hold"))
    assert played(steps, [Begun(1, 0, "hold"), Begun(2, 0, "pause")]) == steps


def test_dates_come_last_and_the_time_limit_is_no_less_than_the_run_took(tmp_path: Path):
    run = first_run(tmp_path, "quiet", "harmful", time_limit_s=3)
    plan = load_subject(run).plan
    dates = [
        replace(one, from_s=0.01 * number, until_s=9.0) for number, one in enumerate(plan.steps, start=1)
    ]
    write_plan(run, replace(plan, steps=tuple(dates)))
    forms = load_subject(run).forms
    assert [[one.from_s for one in form.candidate.steps] for form in forms][-1] == [0.01, 0.02]
    assert all(one.until_s is None for form in forms for one in form.candidate.steps)
    assert all(form.candidate.rest.time_limit_s >= 3 for form in forms)
    assert all(form.candidate.rest.name == "t-shrunk" for form in forms)


@pytest.mark.parametrize(("fault", "verdict"), [("quiet", "pass"), ("unproven", "unknown")])
def test_a_run_that_did_not_fail_is_refused(tmp_path: Path, fault: str, verdict: str):
    run = first_run(tmp_path, fault)
    with pytest.raises(UserError, match=f"the verdict of this run is {verdict}; only one that failed can be"):
        load_subject(run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: not a run: it has no history.blk"),
        ([], "store store: no run yet"),
        ([".", "--budget", "much"], "--budget: 'much' is neither a number of runs nor a time"),
        ([".", "--attempts", "0"], "'--attempts'"),
    ],
)
def test_what_the_user_got_wrong_is_named_in_one_line(tmp_path: Path, arguments: list[str], said: str):
    assert said in only_line(run_program("shrink", *arguments, cwd=tmp_path), 254)


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path):
    run = first_run(tmp_path, "harmful")
    assert main(["shrink", str(run), "--out", str(tmp_path / "missing/least.toml")]) == 254
    assert main(["shrink", str(run), "--out", str(tmp_path)]) == 254
    assert not (run / "shrink").exists()
