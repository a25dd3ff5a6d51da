"""SIGKILL of the controller at any moment: nothing remains, and what was recorded can be judged."""

import os
import random
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from leftovers import MARK, Lab, wait_gone

from jepsen_blk.history.journal import read_journal
from jepsen_blk.judge import judge_run

pytestmark = pytest.mark.lab

SPEC = """
name = "killed"
storage = { conflict = "ignore-second" }
[[nemesis]]
fault = "lost-path-migration"
[[nemesis]]
fault = "migrate"
repeat = 20
"""


@pytest.mark.parametrize("seed", range(20))
def test_sigkill_at_any_moment_leaves_nothing_behind_and_the_journal_opens(seed: int, tmp_path: Path) -> None:
    moment_s = random.Random(seed).uniform(0.3, 5.0)
    mark = uuid.uuid4().hex
    spec, store = tmp_path / "spec.toml", tmp_path / "store"
    spec.write_text(SPEC)
    mounts = Path("/proc/self/mountinfo").read_text()
    controller = subprocess.Popen(
        [sys.executable, "-m", "jepsen_blk", "test", str(spec), "--store", str(store)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        controller.wait(moment_s)
        pytest.fail("the controller ended by itself before it was killed")
    except subprocess.TimeoutExpired:
        with Lab() as lab:
            lab.see(mark)
            controller.send_signal(signal.SIGKILL)
            controller.wait(10)
            assert wait_gone(mark, lab) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    for journal in store.glob("killed/*/history.blk"):
        opened = read_journal(journal)
        assert not opened.closed
        results = judge_run(journal.parent)
        assert results["ops"] == len(opened.history)
        assert results["verdict"] in ("unknown", "fail")
