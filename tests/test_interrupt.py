"""A test that is ended from outside, or whose hypervisor answers no more: healed, or the lab is destroyed."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from leftovers import MARK, Lab, wait_gone
from live_stage import live_stage

from jepsen_blk.history.events import Event, read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.judge import judge_run
from jepsen_blk.lab.local.qemu import Qemu
from nemesis.fault import CUT_OFF

pytestmark = pytest.mark.lab
FAULTS = {
    "a standing fault": ["--nemesis", "path-loss:duration_s=600,node=other"],
    "a hypervisor that is stopped": ["--nemesis", "freeze:duration_s=600"],
}


@pytest.mark.parametrize(
    ("fault", "number", "code", "handler"),
    [
        ("a standing fault", signal.SIGINT, 130, signal.SIG_DFL),
        ("a hypervisor that is stopped", signal.SIGTERM, 143, signal.SIG_DFL),
        ("a standing fault", signal.SIGTERM, 143, signal.SIG_IGN),
    ],
)
def test_a_test_that_is_ended_heals_first_and_leaves_nothing(
    fault: str, number: signal.Signals, code: int, handler: signal.Handlers, tmp_path: Path
) -> None:
    """As a shell starts a job in the background, SIGINT is ignored, and SIGTERM has to do."""
    mark = uuid.uuid4().hex
    controller = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jepsen_blk",
            "test",
            *FAULTS[fault],
            "--store",
            str(tmp_path),
            "--name",
            "cut",
        ],
        env={**os.environ, MARK: mark, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    assert controller.stdout is not None
    for line in controller.stdout:
        if "proven" in line:
            break
    else:
        pytest.fail(controller.communicate()[1])
    with Lab() as lab:
        lab.see(mark)
        controller.send_signal(number)
        _, said = controller.communicate(timeout=60)
        assert (controller.returncode, said) == (code, "jepsen-blk: interrupted\n")
        assert wait_gone(mark, lab) == []
    (run_dir,) = (path for path in tmp_path.glob("cut/*") if path.is_dir())
    events: list[Event] = list(read_events(run_dir / "events.jsonl"))
    (over,) = (event for event in events if event.phase == "over")
    assert (over.data["proven"], over.data["healed"], over.data["why"]) == (True, True, CUT_OFF)
    assert read_journal(run_dir / "history.blk").closed
    assert judge_run(run_dir)["verdict"] == "unknown"


def test_a_hypervisor_that_answers_no_more_is_said_and_its_lab_goes_down_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Qemu.execute.__kwdefaults__, "timeout_s", 0.5)
    monkeypatch.setattr("nemesis.fault._HEAL_TIMEOUT_S", 5.0)
    with live_stage(tmp_path) as live:
        hypervisor = live.lab.hypervisor
        resume = hypervisor.resume

        async def resume_after_it_hangs(node: str) -> None:
            (process,) = live.lab._nodes[node]._running()
            process.freeze()
            await resume(node)

        monkeypatch.setattr(hypervisor, "resume", resume_after_it_hangs)
        over = live.outcome("pause", duration_s=0.2)
        assert (over["proven"], over["healed"]) == (True, False)
        assert "did not answer" in over["why"]
