"""What the linter says that shows a rule does show it: the commands and specifications are really run."""

import json
import tomllib
from pathlib import Path

import pytest
from sim_run import kinds, simulate

from jepsen_blk import cli
from jepsen_blk.errors import EXIT_FAIL
from jepsen_blk.expect import misses
from jepsen_blk.lint.facts import Facts
from jepsen_blk.lint.findings import Options, Scenario, Specification
from jepsen_blk.lint.linter import command, lint, specification_of
from jepsen_blk.lint.rules import RULES
from jepsen_blk.lint.specification import read_specification
from jepsen_blk.spec import HandoffPolicy, make_spec
from jepsen_blk.storage.conflict import ConflictModel

NEED_A_LAB = {"host-cache"}
"""What shows it is not simulated: the scenario has a test of its own."""
WHOLE = [
    rule.id
    for rule in RULES.values()
    if isinstance(rule.shown, Scenario | Specification) and rule.id not in NEED_A_LAB
]
COMMANDS = sorted(
    {command(rule) for rule in RULES.values() if isinstance(rule.shown, Options) and not rule.shown.over_file}
)
OVER_A_FILE = {
    "handoff-leaves-writes": '[handoff]\npolicy = "preempt"\n',
    "handoff-no-fence": '[handoff]\npolicy = "drain"\n[storage]\nwrite_latency_ms = 20\n',
    "epoch-ignore-second": '[handoff]\npolicy = "epoch"\n[storage]\nconflict = "ignore-second"\n',
}


def play(text: str, store: Path, lab: str = "sim") -> dict[str, object]:
    data = tomllib.loads(text) | {"lab": lab}
    outcome = simulate(store, **{key: value for key, value in data.items() if key != "lab"})
    expect = make_spec(data).expect
    assert expect is not None
    assert misses(expect, outcome.results) == []
    return outcome.results


@pytest.mark.parametrize("name", WHOLE)
def test_the_scenario_or_specification_of_a_rule_ends_in_an_anomaly_that_it_names(
    tmp_path: Path, name: str
) -> None:
    results = play(specification_of(RULES[name]), tmp_path)
    found = {anomaly["kind"] for anomaly in results["anomalies"]}  # type: ignore[attr-defined]
    assert found & set(RULES[name].kinds)


def run_command(text: str, store: Path) -> set[str]:
    program, *words = text.split()
    assert program == "jepsen-blk"
    assert cli.main([*words, "--store", str(store)]) == EXIT_FAIL
    results = json.loads((store / "latest" / "results.json").read_text())
    return {anomaly["kind"] for anomaly in results["anomalies"]}


@pytest.mark.parametrize("text", COMMANDS)
def test_the_command_of_a_rule_ends_in_an_anomaly_that_it_names(tmp_path: Path, text: str) -> None:
    found = run_command(text, tmp_path)
    for rule in RULES.values():
        assert command(rule) != text or found & set(rule.kinds), rule.id


def test_each_rule_that_is_shown_over_a_file_has_one_here() -> None:
    shown = {rule.id for rule in RULES.values() if isinstance(rule.shown, Options) and rule.shown.over_file}
    assert shown == set(OVER_A_FILE)


@pytest.mark.parametrize("name", OVER_A_FILE)
def test_the_command_over_a_file_ends_in_an_anomaly_of_the_rule_that_was_found_in_it(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(OVER_A_FILE[name])
    linted = lint(read_specification(file.read_bytes(), str(file)), str(file))
    assert name in {finding.rule.id for finding in linted.findings}
    assert run_command(command(RULES[name], linted), tmp_path / "store") & set(RULES[name].kinds)


def facts_of(policy: HandoffPolicy, conflict: ConflictModel) -> Facts:
    text = f'[handoff]\npolicy = "{policy}"\n[storage]\nconflict = "{conflict}"\n'
    return read_specification(text.encode(), "f")


@pytest.mark.parametrize("conflict", ConflictModel)
@pytest.mark.parametrize("policy", HandoffPolicy)
def test_an_error_is_found_exactly_where_a_lost_path_does_damage(
    tmp_path: Path, policy: HandoffPolicy, conflict: ConflictModel
) -> None:
    outcome = simulate(
        tmp_path,
        seed=1,
        nemesis=[{"fault": "lost-path-migration"}],
        storage={"conflict": conflict, "write_latency_ms": 20},
        handoff={"policy": policy, "quiesce_s": 1},
    )
    errors = [
        finding.rule for finding in lint(facts_of(policy, conflict), "f").findings if finding.level == "error"
    ]
    promised = {kind for rule in errors for kind in rule.kinds}
    assert (outcome.verdict, kinds(outcome)) == ("fail" if errors else "pass", promised)


@pytest.mark.parametrize("conflict", [ConflictModel.ARRIVAL_ORDER, ConflictModel.SERIALIZE])
@pytest.mark.parametrize("policy", HandoffPolicy)
def test_a_warning_is_found_exactly_where_a_node_that_was_cut_off_writes_later(
    tmp_path: Path, policy: HandoffPolicy, conflict: ConflictModel
) -> None:
    found = {finding.rule.id for finding in lint(facts_of(policy, conflict), "f").findings}
    outcome = simulate(
        tmp_path,
        seed=1,
        nemesis=[{"fault": "failover", "options": {"by": "cut", "duration_s": 0.3}}],
        storage={"conflict": conflict, "write_latency_ms": 20},
        handoff={"policy": policy, "quiesce_s": 1},
    )
    assert ("fenced-zombie" in kinds(outcome)) is ("handoff-no-fence" in found)


@pytest.mark.lab
def test_a_flush_that_does_nothing_loses_what_was_flushed(tmp_path: Path) -> None:
    (tmp_path / "lying-flush.toml").write_text(specification_of(RULES["flush-ignored"]))
    found = run_command(f"jepsen-blk test {tmp_path}/lying-flush.toml", tmp_path / "store")
    assert found == {"durability-loss"}
