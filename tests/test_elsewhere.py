"""The simulator where there is no Linux, as far as that can be had on one: see elsewhere.py."""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sim_golden import GOLDEN

from jepsen_blk import store as stores

HERE = Path(__file__).parent
PLATFORMS = ("darwin", "win32")
FOUNDING = ("--conflict", "ignore-second", "--nemesis", "lost-path-migration", "--seed", "7")
"""The options of the founding case in sim_golden.py."""


def jepsen_blk(platform: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HERE / "elsewhere.py"), platform, *argv],
        env={**os.environ, "PATH": "", "JEPSEN_BLK_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_simulated_test_runs_is_judged_again_and_replayed_without_linux(
    tmp_path: Path, platform: str
) -> None:
    at = ("--store", str(tmp_path))
    done = jepsen_blk(platform, "test", "--lab", "sim", *at, *FOUNDING)
    assert done.returncode == 1, done.stderr
    first = stores.latest(tmp_path)
    digest = hashlib.sha256((first / "history.blk").read_bytes()).hexdigest()
    assert digest == tomllib.loads(GOLDEN.read_text())["founding-case"]
    assert (first / "report.html").is_file()

    judged = jepsen_blk(platform, "check", str(tmp_path / "latest"), "--json")
    assert (judged.returncode, json.loads(judged.stdout)["verdict"]) == (1, "fail"), judged.stderr

    again = jepsen_blk(platform, "replay", *at)
    assert again.returncode == 1, again.stderr
    second = stores.latest(tmp_path)
    assert second != first
    assert (second / "history.blk").read_bytes() == (first / "history.blk").read_bytes()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_lab_that_is_not_named_is_the_simulator_there(tmp_path: Path, platform: str) -> None:
    done = jepsen_blk(platform, "test", "--store", str(tmp_path), *FOUNDING)
    assert done.returncode == 1, done.stderr
    said = "lab sim, a simulation: there are no real guests here (the local lab needs Linux)"
    assert said in done.stderr
