"""The scenarios: each ends on a real lab as it says, and what does not is told."""

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import only_line, run

from jepsen_blk.checker.kinds import KINDS
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, EXIT_USER, LabError, SpecError, UserError
from jepsen_blk.expect import misses
from jepsen_blk.scenarios import NAMES, regression, scenario, scenario_file
from jepsen_blk.spec import ExpectSpec, Spec, make_spec
from nemesis.schedule import make_plan

RESULTS: dict[str, Any] = {
    "verdict": "fail",
    "anomalies": [{"kind": "stale-overwrite"}],
    "deadlines": {"never": "pass", "fence": "fail", "error": "fail"},
    "reasons": [],
}


@pytest.mark.lab
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_ends_as_it_has_to(name: str, tmp_path: Path) -> None:
    spec = scenario(name, seed=1)
    outcome = asyncio.run(run_test(spec, tmp_path))
    assert spec.expect is not None
    assert (misses(spec.expect, outcome.results), outcome.results["reasons"]) == ([], [])


@pytest.mark.lab
def test_a_policy_that_ends_what_the_source_had_in_flight_changes_the_end(tmp_path: Path) -> None:
    spec = scenario("requeue-path-lost")
    safe = spec.model_copy(update={"handoff": make_spec({"handoff": {"policy": "preempt-abort"}}).handoff})
    outcome = asyncio.run(run_test(safe, tmp_path))
    assert spec.expect is not None
    assert misses(spec.expect, outcome.results)[:2] == [
        "the verdict is pass, not fail",
        "stale-overwrite was not found",
    ]


def test_every_scenario_is_listed_planned_and_expects_what_there_is() -> None:
    files = {path.stem for path in scenario_file(NAMES[0]).parent.glob("*.toml")}
    assert files == set(NAMES)
    for name in NAMES:
        spec = scenario(name)
        assert (spec.name, bool(spec.about)) == (name, True)
        assert make_plan(spec).count == 1
        assert spec.expect is not None
        assert set(spec.expect.anomalies) <= set(KINDS)


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"verdict": "fail", "anomalies": ["stale-overwrite"]}, []),
        ({"verdict": "fail", "anomalies": ["stale-overwrite"], "deadlines": {"never": "pass"}}, []),
        (
            {"verdict": "pass"},
            ["the verdict is fail, not pass", "stale-overwrite was found"],
        ),
        (
            {"verdict": "fail", "anomalies": ["lost-write", "stale-overwrite"]},
            ["lost-write was not found"],
        ),
        (
            {"verdict": "fail", "anomalies": ["stale-overwrite"], "deadlines": {"never": "fail"}},
            ["the verdict under never is pass, not fail"],
        ),
    ],
)
def test_what_is_not_as_expected_is_told(expect: dict[str, Any], said: list[str]) -> None:
    assert misses(ExpectSpec.model_validate(expect), RESULTS) == said


def test_an_expectation_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(SpecError, match="a test that passes finds none"):
        make_spec({"expect": {"verdict": "pass", "anomalies": ["stale-overwrite"]}})


def test_every_run_has_to_end_as_expected_and_a_lab_that_fails_is_no_such_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds: list[int] = []

    async def fake(spec: Spec, store: Path) -> Outcome:
        seeds.append(spec.seed)
        if spec.seed == 6:
            raise LabError("no namespaces")
        kinds = [{"kind": kind} for kind in spec.expect.anomalies] if spec.expect else []
        results = {
            **RESULTS,
            "anomalies": kinds,
            "deadlines": dict.fromkeys(("never", "fence", "error"), "fail"),
        }
        return Outcome("fail", results, store / "run")

    monkeypatch.setattr(regression, "run_test", fake)
    assert regression.play_scenarios(["requeue-path-lost"], 2, tmp_path, seed=4) == EXIT_PASS
    assert regression.play_scenarios(["requeue-path-lost", "held-in-network"], 2, tmp_path, 5) == EXIT_FAIL
    assert seeds == [4, 5, 5, 6, 5, 6]
    said = capsys.readouterr().out
    assert "there was no lab: no namespaces" in said
    assert said.count("1 of 2") == 2


def test_what_the_simulator_cannot_do_is_left_out_with_the_reason_and_the_rest_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["requeue-path-lost", "held-in-network"]
    assert regression.play_scenarios(both, 2, tmp_path, lab="sim") == EXIT_PASS
    said = capsys.readouterr().out
    assert re.search(r"held-in-network +left out +lab 'sim' cannot do storage.kind 'nbdkit-memory'", said)
    assert said.count("2 of 2") == 1
    with pytest.raises(UserError, match="nbdkit-memory"):
        regression.play_scenarios(["held-in-network"], 1, tmp_path, lab="sim")


def test_the_verb_lists_prints_and_names_a_mistake(tmp_path: Path) -> None:
    listed = run("scenarios", cwd=tmp_path)
    assert (listed.returncode, all(name in listed.stdout for name in NAMES)) == (EXIT_PASS, True)
    printed = run("scenarios", "--print", "frozen-node", cwd=tmp_path)
    assert tomllib.loads(printed.stdout)["name"] == "frozen-node"
    said = only_line(run("scenarios", "frozennode", cwd=tmp_path), EXIT_USER)
    assert "did you mean 'frozen-node'?" in said
    said = only_line(run("scenarios", "--all", "frozen-node", cwd=tmp_path), EXIT_USER)
    assert "leave out the names" in said
    with pytest.raises(UserError, match="no scenario 'x'; there are"):
        scenario_file("x")
