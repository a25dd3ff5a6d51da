"""A stored run is played again with exactly its specification and its plan, and says which run it repeats."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_rig import WAIT_S
from fake_lab import PreparedFakeLab
from histories import read, write
from quiet_fault import Quiet

from jepsen_blk import controller, doctor
from jepsen_blk.cli import main
from jepsen_blk.controller import run_test
from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.history.events import read_events
from jepsen_blk.replay import load_repeated
from jepsen_blk.spec import Spec, load_spec, make_spec
from nemesis import schedule
from nemesis.catalogue import FAULTS
from nemesis.plan import read_plan

SCHEDULE = {
    "kind": "mix",
    "repeat": 5,
    "items": [
        {"fault": "quiet", "after_s": 0, "options": {"level": {"min": 1, "max": 1000}}},
        {"fault": "silent", "after_s": 0},
    ],
}


@dataclass
class Silent(Quiet):
    name = "silent"


@dataclass
class Louder(Silent):
    """The same fault with another default."""

    level: int = 5


@pytest.fixture(autouse=True)
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare(spec: Spec) -> PreparedFakeLab:
        (tmp_path / "x").unlink(missing_ok=True)
        return PreparedFakeLab(tmp_path, (write(1, 0, 90, 7), read(1, 300, 310, 7)))

    for fault in (Quiet, Silent):
        monkeypatch.setitem(FAULTS, fault.name, fault)
    monkeypatch.setattr(controller, "prepare_lab", prepare)
    monkeypatch.setattr(doctor, "PACKAGES", {})


def first_run(folder: Path, **spec: Any) -> Path:
    async def test() -> Path:
        async with asyncio.timeout(WAIT_S):
            given = {"seed": 7, "schedule": SCHEDULE, **spec}
            return (await run_test(make_spec(given), folder / "store")).run_dir

    return asyncio.run(test()).resolve()


def proofs(run: Path) -> list[tuple[str, str]]:
    events = read_events(run / "events.jsonl")
    return [(e.name, e.data["proof"]) for e in events if (e.source, e.phase) == ("fault", "proven")]


def environment(run: Path) -> dict[str, str]:
    return json.loads((run / "environment.json").read_text())


def test_the_plan_that_is_played_is_stored_with_the_run(tmp_path: Path):
    run = first_run(tmp_path)
    steps = read_plan(run).steps
    assert proofs(run) == [(step.fault, f"level {step.options['level']}") for step in steps]
    assert "repeats" not in environment(run)


def test_a_replay_plays_the_same_plan_and_names_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = first_run(tmp_path)
    monkeypatch.setattr(schedule, "Random", None)  # nothing is drawn anew
    monkeypatch.setitem(FAULTS, "silent", Louder)
    assert main(["replay", str(run), "--store", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again/latest").resolve()
    assert read_plan(again) == read_plan(run)
    assert proofs(again) == proofs(run)
    assert (again / "spec.toml").read_text() == (run / "spec.toml").read_text()
    assert environment(again) == {"repeats": str(run)}
    assert str(run) in (again / "report.html").read_text()


def test_a_replay_plays_what_came_during_a_fault_during_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stands = {"kind": "during", "fault": {"fault": "quiet", "after_s": 0}, "items": [SCHEDULE]}
    run = first_run(tmp_path, schedule={"kind": "cycle", "repeat": 2, "items": [stands]})
    assert [(step.fault, len(step.during)) for step in read_plan(run).steps] == [("quiet", 5)] * 2
    monkeypatch.setattr(schedule, "Random", None)  # nothing is drawn anew
    assert main(["replay", str(run), "--store", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again/latest").resolve()
    assert read_plan(again) == read_plan(run)
    assert proofs(again) == proofs(run)
    told = [json.loads((each / "results.json").read_text())["faults"] for each in (run, again)]
    assert told[0] == told[1]
    assert [fault["during"] for fault in told[1]] == [0, *[1] * 5, 0, *[7] * 5]


def test_without_a_run_the_newest_is_replayed_under_the_name_that_is_given(tmp_path: Path):
    run = first_run(tmp_path, schedule=None, nemesis=[{"fault": "quiet", "after_s": 0, "repeat": 2}])
    assert main(["replay", "--name", "again", "--store", str(tmp_path / "store")]) == 0
    again = (tmp_path / "store/latest").resolve()
    assert again.parent.name == "again"
    assert load_spec(again / "spec.toml") == load_spec(run / "spec.toml", {"name": "again"})
    assert proofs(again) == [("quiet", "level 0")] * 2


def test_a_replay_can_be_replayed(tmp_path: Path):
    run = first_run(tmp_path)
    for _ in range(2):
        assert main(["replay", "--store", str(tmp_path / "store")]) == 0
    assert proofs((tmp_path / "store/latest").resolve()) == proofs(run)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "plan.json: not a plan: Invalid JSON"),
        ('{"steps": [{"fault": "quiet", "afetr_s": 1}]}', "not a plan: steps.0.afetr_s: Unexpected keyword"),
        (
            '{"steps": [{"fault": "quiet", "after_s": -1}]}',
            "not a plan: steps.0.after_s: Input should be greater",
        ),
    ],
)
def test_a_damaged_plan_is_named_in_one_line(tmp_path: Path, text: str, said: str):
    run = first_run(tmp_path)
    (run / "plan.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load_repeated(run)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_that_there_is_no_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = first_run(tmp_path)
    monkeypatch.delitem(FAULTS, "silent")
    with pytest.raises(SpecError, match="no fault 'silent'"):
        load_repeated(run)


def test_what_has_no_plan_says_what_can_be_done(tmp_path: Path):
    run = first_run(tmp_path)
    (run / "plan.json").unlink()
    with pytest.raises(UserError, match=r"has no plan\.json; .* `jepsen-blk test .*/spec\.toml`"):
        load_repeated(run)
    shutil.rmtree(run / "logs")
    with pytest.raises(UserError, match="not a run"):
        load_repeated(tmp_path)


def test_a_dry_run_prints_the_stored_plan_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = first_run(tmp_path)
    runs = sorted(run.parent.iterdir())
    monkeypatch.setattr(schedule, "_plan_schedule", None)  # nothing is drawn again
    capsys.readouterr()
    assert main(["replay", str(run), "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [fault["options"] for fault in shown["steps"]] == [step.options for step in read_plan(run).steps]
    assert main(["replay", str(run), "--dry-run"]) == 0
    assert "quiet" in capsys.readouterr().out
    assert sorted(run.parent.iterdir()) == runs
