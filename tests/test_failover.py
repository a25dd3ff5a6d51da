"""A node is lost and its guest started again on the other one; then the node comes back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.history.events import read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import F
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.spec import make_spec
from jepsen_blk.stamp import SEQUENCE_BITS
from workloads import guest as guest_module

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("live")) as live:
        yield live


def test_a_guest_is_started_again_elsewhere_and_reads_what_it_wrote_before(live: LiveStage) -> None:
    async def fail_over() -> None:
        await live.stage.work_on(0.2)
        await live.lab.hypervisor.kill("x")
        await live.stage.fail_over()
        await live.stage.quiesce()
        await live.stage.read_all()
        await live.stage.guest.run(live.stage.workload)

    live.do(fail_over())
    assert (live.stage.guest_node, live.stage.other_node) == ("y", "x")
    assert live.do(live.lab.hypervisor.state("x")) is GuestState.ABSENT
    assert live.do(live.lab.hypervisor.state("y")) is GuestState.RUNNING
    events = [event for event in read_events(live.folder / "events.jsonl") if event.source == "failover"]
    assert [(event.phase, event.node) for event in events] == [("begin", "x"), ("fence", "x"), ("end", "y")]
    assert [event.data.get("boot") for event in events] == [None, 0, 1]
    history = read_journal(live.folder / "history.blk").history
    (fence,) = history.fences
    old, new = history.boot == 0, history.boot == 1
    assert fence.boot == 0
    assert history.finish[old].max() < fence.time_ns < history.start[new].min()
    reads = new & (history.f == F.READ)
    assert set((history.value[reads] >> SEQUENCE_BITS).tolist()) == {0, 1}
    assert (history.value[reads & (history.value < 1 << SEQUENCE_BITS)] > 0).any()


def nothing(answer: Any = None) -> Callable[..., Awaitable[Any]]:
    """A seam's method that does nothing."""

    async def method(*args: Any, **options: Any) -> Any:
        return answer

    return method


@pytest.mark.parametrize(
    ("by", "lost"),
    [
        ("kill", "the guest on {} is absent"),
        ("stop", "the processes of {} are stopped"),
        ("cut", "{} cannot reach: storage"),
    ],
)
def test_a_lost_node_is_seen_lost_and_its_guest_works_elsewhere(live: LiveStage, by: str, lost: str) -> None:
    here, there = live.stage.guest_node, live.stage.other_node
    assert live.outcome("failover", by=by, duration_s=0.2, overlap_s=0.3) == GOOD
    assert live.proof().startswith(lost.format(here))
    assert live.proof().endswith(f"started again, the guest works on {there}")
    assert live.stage.guest_node == there
    assert live.do(live.lab.hypervisor.state(here)) is GuestState.ABSENT
    assert [event.node for event in live.events if event.phase == "came-back"] == [here] * (by != "kill")


def test_a_node_whose_disk_has_failed_meanwhile_works_on_when_it_comes_back(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = []
    resume = live.lab.hypervisor.resume

    async def note(node: str) -> None:
        resumed.append(node)
        await resume(node)

    monkeypatch.setattr(live.lab.hypervisor, "resume", note)
    here = live.stage.guest_node
    assert live.outcome("failover", by="cut", duration_s=5, overlap_s=1) == GOOD
    assert here in resumed


@pytest.mark.parametrize(
    ("by", "seam", "method"), [("kill", "hypervisor", "kill"), ("cut", "network", "cut")]
)
def test_a_node_that_was_not_lost_is_no_failover(
    live: LiveStage, by: str, seam: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = live.stage.guest_node
    monkeypatch.setattr(getattr(live.lab, seam), method, nothing())
    over = live.outcome("failover", by=by)
    assert (over["proven"], over["healed"]) == (False, True)
    assert live.stage.guest_node == here


def test_a_node_that_was_not_stopped_is_no_failover(live: LiveStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.lab, "freeze", nothing())
    over = live.outcome("failover", by="stop")
    assert (over["proven"], over["healed"]) == (False, True)
    assert "are not stopped" in over["why"]


def test_an_old_guest_that_is_left_running_is_not_healed(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = live.stage.guest_node
    with monkeypatch.context() as sabotage:
        sabotage.setattr(live.lab.hypervisor, "kill", nothing())
        over = live.outcome("failover", by="stop", duration_s=0.1, overlap_s=0.1)
    assert (over["proven"], over["healed"]) == (True, False)
    assert f"the guest on {here} is running, not absent" in over["why"]
    live.do(live.lab.hypervisor.kill(here))


def test_a_guest_that_was_not_started_again_is_no_failover(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as sabotage:
        sabotage.setattr(live.lab.hypervisor, "start", nothing())
        sabotage.setattr(guest_module, "_CALL_TIMEOUT_S", 0.3)
        over = live.outcome("failover")
    assert (over["proven"], over["healed"]) == (False, False)
    live.do(live.stage.fail_over())
    assert live.outcome("failover", duration_s=0) == GOOD


def run(store: Path, policy: str, **options: Any) -> Outcome:
    fault = {"fault": "failover", "options": options}
    return asyncio.run(run_test(make_spec({"nemesis": [fault], "handoff": {"policy": policy}}), store))


def test_a_node_that_died_leaves_nothing_that_could_land_late(tmp_path: Path) -> None:
    outcome = run(tmp_path, "requeue", by="kill")
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results


@pytest.mark.parametrize("by", ["stop", "cut"])
def test_a_node_that_comes_back_unfenced_overwrites_what_was_acknowledged_since(
    tmp_path: Path, by: str
) -> None:
    outcome = run(tmp_path, "requeue", by=by)
    assert outcome.verdict == "fail"
    assert "fenced-zombie" in {anomaly["kind"] for anomaly in outcome.results["anomalies"]}
    assert outcome.results["deadlines"]["never"] == "pass"
    assert any("of X was applied" in anomaly.get("blame", "") for anomaly in outcome.results["anomalies"])


# Not stonith after a cut: what was on its way when the path was cut outlives the process, and may come.
@pytest.mark.parametrize(
    ("by", "policy"), [("stop", "preempt-abort"), ("cut", "preempt-abort"), ("stop", "stonith")]
)
def test_a_node_that_was_shut_out_does_no_damage_when_it_comes_back(
    tmp_path: Path, by: str, policy: str
) -> None:
    outcome = run(tmp_path, policy, by=by)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", []), outcome.results
