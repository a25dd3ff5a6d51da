"""Golden histories: one for each real incident that a block's history can express, judged as it must be.

The histories are tests/golden/*.jsonl, their sources and what must be found in tests/golden/incidents.toml.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk import cli
from jepsen_blk.deadline import Deadline

GOLDEN = Path(__file__).parent / "golden"
INCIDENTS: dict[str, dict[str, Any]] = tomllib.loads((GOLDEN / "incidents.toml").read_text())
EXIT_CODES = {"pass": 0, "fail": 1}


def check(name: str, deadline: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = cli.main(["check", str(GOLDEN / f"{name}.jsonl"), "--json", "--deadline", deadline])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_is_judged_as_its_source_judges_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    incident = INCIDENTS[name]
    verdicts = dict(zip(Deadline, incident["verdicts"], strict=True))
    for deadline, verdict in verdicts.items():
        code, results = check(name, deadline, capsys)
        assert (code, results["verdict"]) == (EXIT_CODES[verdict], verdict)
        assert results["deadlines"] == {other.value: verdicts[other] for other in Deadline}
        assert bool(results["anomalies"]) == (verdict == "fail")
        assert results["reasons"] == []
    found = [[anomaly["kind"], anomaly["block"], anomaly["ops"]] for anomaly in results["anomalies"]]
    assert found == incident["found"]


def test_every_golden_history_has_a_source_and_every_source_a_history() -> None:
    assert {path.stem for path in GOLDEN.glob("*.jsonl")} == set(INCIDENTS)
    for incident in INCIDENTS.values():
        assert set(incident) == {"source", "what", "verdicts", "found"}
