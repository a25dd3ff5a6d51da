"""What the command line lays over a specification, and the plan that it shows before anything runs."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from command_line import Outcome, run

from jepsen_blk import cli, doctor
from jepsen_blk.options import parse_nemesis, read_spec
from jepsen_blk.report.view import View
from jepsen_blk.spec import Spec


def test_an_option_wins_over_the_file_and_leaves_the_rest(tmp_path: Path):
    (tmp_path / "spec.toml").write_text(
        "seed = 7\n[storage]\nconflict = 'serialize'\nwrite_latency_ms = 9\n[[nemesis]]\nfault = 'pause'\n"
    )
    given = {"storage.conflict": "ignore-second", "seed": None}
    spec = read_spec(tmp_path / "spec.toml", given)
    assert (spec.seed, spec.storage.conflict, spec.storage.write_latency_ms) == (7, "ignore-second", 9)
    assert [step.fault for step in spec.nemesis] == ["pause"]


@pytest.mark.parametrize(
    ("options", "stops"), [([], True), (["--no-stop-on-fail"], False), (["--stop-on-fail"], True)]
)
def test_a_test_stops_at_its_first_anomaly_if_the_file_or_an_option_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], stops: bool
):
    seen = []

    async def run_test(spec: Spec, store: Path, *, repeated: None, keep_lab: bool, view: View) -> Outcome:
        seen.append(spec.stop_on_fail)
        return Outcome("pass", {"verdict": "pass"}, tmp_path)

    controller = ModuleType("jepsen_blk.controller")
    controller.run_test = run_test
    monkeypatch.setitem(sys.modules, "jepsen_blk.controller", controller)
    monkeypatch.setattr(doctor, "PACKAGES", {})
    (tmp_path / "spec.toml").write_text("stop_on_fail = true\n")
    assert cli.main(["test", str(tmp_path / "spec.toml"), *options, "--store", str(tmp_path)]) == 0
    assert seen == [stops]


def test_faults_on_the_command_line_replace_the_schedule(tmp_path: Path):
    (tmp_path / "spec.toml").write_text("[[nemesis]]\nfault = 'pause'\n")
    spec = read_spec(tmp_path / "spec.toml", {}, ["hold", "migrate:repeat=3"])
    assert [(step.fault, step.repeat) for step in spec.nemesis] == [("hold", 1), ("migrate", 3)]


SCHEDULE = """
seed = 7
time_limit_s = 60
[schedule]
kind = "sequence"
items = [{ fault = "pause", at_s = 5 }, { kind = "cycle", items = [{ fault = "hold", after_s = 9 }] }]
"""


def test_faults_on_the_command_line_replace_a_drawn_schedule_too(tmp_path: Path):
    (tmp_path / "spec.toml").write_text(SCHEDULE)
    spec = read_spec(tmp_path / "spec.toml", {}, ["hold"])
    assert (spec.schedule, [step.fault for step in spec.nemesis]) == (None, ["hold"])


def test_a_dry_run_prints_the_plan_and_needs_and_makes_nothing(tmp_path: Path):
    (tmp_path / "spec.toml").write_text(SCHEDULE)
    done = run("test", "spec.toml", "--dry-run", cwd=tmp_path, env={"PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "plan of test register: 6 faults from seed 7, 60 s at least"
    assert "1 5.0 s 0 s pause duration_s=1.0" in lines
    assert "6 55.0 s 9 s 60 s hold duration_s=1.0,blocks=[]" in lines
    assert any(line.startswith("ends by: ") for line in lines)
    assert any("time_limit_s = 60" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


def test_a_dry_run_for_programs_is_one_object(tmp_path: Path):
    done = run("test", "--dry-run", "--json", "--nemesis", "pause:repeat=2", "--seed", "3", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, told["name"], told["seed"], told["time_limit_s"]) == (0, "register", 3, 60)
    assert [(step["fault"], step["earliest_s"], step["after_s"]) for step in told["steps"]] == [
        ("pause", 0.3, 0.3),
        ("pause", 1.6, 0.3),
    ]
    assert told["least_s"] == pytest.approx(2.6)


def test_a_dry_run_without_faults_says_so(tmp_path: Path):
    done = run("test", "--dry-run", "--time-limit", "5", cwd=tmp_path)
    assert done.returncode == 0
    assert "no faults: the workload runs alone for time_limit_s = 5" in done.stdout


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("migrate", {"fault": "migrate"}),
        ("migrate:mode=precopy", {"fault": "migrate", "options": {"mode": "precopy"}}),
        ("hold:after_s=1.5,duration_s=2", {"fault": "hold", "after_s": 1.5, "options": {"duration_s": 2}}),
        (
            "hold:blocks=[1,2],repeat=2",
            {"fault": "hold", "repeat": 2, "options": {"blocks": [1, 2]}},
        ),
        ("hold:fault=x", {"fault": "hold", "options": {"fault": "x"}}),
    ],
)
def test_a_fault_is_read_with_its_options(text: str, step: dict[str, object]):
    assert parse_nemesis(text) == step
