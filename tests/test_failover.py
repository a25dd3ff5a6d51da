"""The guest is started again on the other node: the history goes on, and the old boot's writes are closed."""

from collections.abc import Iterator

import pytest
from live_stage import LiveStage, live_stage

from jepsen_blk.history.events import read_events
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import F
from jepsen_blk.lab.seams import GuestState
from jepsen_blk.stamp import SEQUENCE_BITS

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
