"""Each policy with its assumption taken away: the simulated run fails as it says, and for that reason."""

import re
from pathlib import Path

import pytest

from jepsen_blk.assumptions import ASSUMPTIONS, run_file, run_spec, untried_of
from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.errors import UserError
from jepsen_blk.expect import misses
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.spec import HandoffPolicy, change_spec

ROOT = Path(__file__).parent.parent
RUNS = [assumption.run for assumption in ASSUMPTIONS]
ACCEPTED = [run for run in RUNS if "accepted" in run or "slower" in run]
LATE = [run for run in RUNS if "network" in run or "back" in run]


def play(name: str, store: Path, seed: int, policy: str = "") -> Outcome:
    spec = run_spec(name, seed)
    if policy:
        spec = change_spec(spec, {"handoff": {"policy": policy}})
    return run_in_time_of(spec, run_test(spec, store))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=lambda assumption: assumption.run)
def test_a_policy_fails_once_what_it_relies_on_is_taken_away(assumption, seed: int, tmp_path: Path) -> None:
    spec = run_spec(assumption.run)
    assert (spec.name, spec.lab, spec.handoff.policy) == (assumption.run, "sim", assumption.policy)
    assert spec.expect is not None
    assert spec.expect.verdict == "fail"
    outcome = play(assumption.run, tmp_path, seed)
    assert (misses(spec.expect, outcome.results), outcome.results["reasons"]) == ([], [])


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_policy_that_ends_what_was_accepted_withstands_the_run_that_others_do_not(
    name: str, tmp_path: Path
) -> None:
    outcome = play(name, tmp_path, 0, "preempt-abort")
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])


@pytest.mark.parametrize(
    ("name", "policy"), [(LATE[0], "preempt"), *((name, "cancel-initiator") for name in LATE)]
)
def test_a_late_write_that_is_refused_or_gone_does_no_damage(name: str, policy: str, tmp_path: Path) -> None:
    outcome = play(name, tmp_path, 0, policy)
    assert outcome.results["anomalies"] == []
    assert "await-held" in str(outcome.results["reasons"])  # it never came, so it was not held


def test_every_policy_has_what_it_relies_on_and_every_specification_is_told_of() -> None:
    assert {assumption.policy for assumption in ASSUMPTIONS} == set(HandoffPolicy)
    assert sorted(RUNS) == sorted(path.stem for path in run_file(RUNS[0]).parent.glob("*.toml"))
    assert "no run shows that" in untried_of("preempt-abort")
    assert untried_of("requeue") == ""
    with pytest.raises(UserError, match="did you mean 'quiesce-slower-write'"):
        run_file("quiesce-slow-write")


def test_the_documents_say_of_each_policy_what_the_code_does() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    _, _, section = page.partition("## Handoff policies")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| ([^|\[]+) \|$", section.split("\n## ")[0], re.MULTILINE))
    for policy in HandoffPolicy:
        own = [assumption for assumption in ASSUMPTIONS if assumption.policy == policy]
        assert rows[policy] == "; ".join(assumption.relies_on for assumption in own)
    for assumption in ASSUMPTIONS:
        row = f"| `{assumption.policy}` | {assumption.removed} | [{assumption.run}]"
        assert row + f"(../jepsen_blk/assumptions/{assumption.run}.toml) |" in page
