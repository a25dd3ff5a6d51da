"""On a real lab, a run with one harmful fault among harmless ones is shrunk to that one, and fails again."""

import asyncio
from pathlib import Path

import pytest
from rich.console import Console

from jepsen_blk.controller import run_test
from jepsen_blk.shrink.budget import parse_budget
from jepsen_blk.shrink.session import Effort, shrink_run
from jepsen_blk.shrink.subject import load_subject
from jepsen_blk.spec import load_spec, make_spec
from nemesis.schedule import make_plan

pytestmark = pytest.mark.lab

# On a machine that is busy the guest may take longer to move than a write is held by default.
LOST_PATH = {"fault": "lost-path-migration", "options": {"hold_max_s": 30}}


def test_a_lost_path_migration_among_harmless_faults_is_left_alone_and_fails_again(tmp_path: Path):
    spec = make_spec(
        {
            "storage": {"conflict": "ignore-second"},
            "nemesis": [
                {"fault": "pause", "options": {"duration_s": 0.5}},
                {"fault": "hold", "options": {"duration_s": 0.2}},
                LOST_PATH,
                {"fault": "pause", "options": {"duration_s": 0.5}},
            ],
        }
    )
    first = asyncio.run(run_test(spec, tmp_path))
    subject = load_subject(first.run_dir)
    effort = Effort(attempts=2, confirm=0, budget=parse_budget("5"))
    out = tmp_path / "least.toml"
    assert shrink_run(subject, out, effort, Console(quiet=True)) == 0
    least = load_spec(out)
    assert [step.fault for step in make_plan(least).steps] == ["lost-path-migration"]
    again = asyncio.run(run_test(least, tmp_path / "again"))
    assert again.verdict == "fail"
    assert {anomaly["kind"] for anomaly in again.results["anomalies"]} == subject.kinds
