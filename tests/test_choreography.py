"""Scripts of an exact interleaving: refused where they cannot work, and played on a real lab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.errors import SpecError
from nemesis.catalogue import make_fault

QUIESCE = {"do": "quiesce"}
FOUNDING = [
    QUIESCE,
    {"do": "hold", "node": "x", "block": 17, "name": "held"},
    {"do": "write", "block": 17, "name": "A"},
    {"do": "await-held", "hold": "held"},
    {"do": "cut", "node": "x"},
    {"do": "reset", "node": "x"},
    {"do": "await-guest", "node": "x", "state": "io-error"},
    {"do": "migrate"},
    {"do": "await-reissue", "node": "y"},
    {"do": "await-write", "of": "A"},
    {"do": "write", "block": 17, "name": "A'"},
    {"do": "await-write", "of": "A'"},
    {"do": "read", "block": 17},
    {"do": "release", "hold": "held"},
    {"do": "read", "block": 17},
]
"""The case of 2006 on a storage that runs both copies: the read after the release sees A again."""


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([{"do": "write", "block": 1}], r"step 1 \(write block=1\): .* 'quiesce' step has to come first"),
        ([QUIESCE, {"do": "await-write", "of": "A"}], "no step before it has the name 'A'"),
        (
            [QUIESCE, *[{"do": "write", "block": 1, "name": "A"}] * 2],
            "a step before it has the name 'A' already",
        ),
        ([QUIESCE, {"do": "fail-over"}, {"do": "read-all"}], r"step 3 \(read-all\): the workload runs here"),
        ([{"do": "dance"}], "'dance' found using 'do' does not match"),
        ([{"do": "hold", "node": "z", "name": "A"}], r"steps\.0\.hold\.node: Input should be 'x' or 'y'"),
        ([], "at least 1 item"),
    ],
)
def test_a_script_that_cannot_work_is_refused(steps: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        make_fault("choreography", {"steps": steps})


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("run")) as live:
        yield live


def saw(rig: LiveStage) -> list[str]:
    """What each played step saw."""
    return [str(event.data["saw"]) for event in rig.events if event.phase == "step"]


@pytest.mark.lab
def test_the_founding_case_is_played_step_by_step(rig: LiveStage) -> None:
    assert rig.outcome("choreography", steps=FOUNDING) == GOOD
    seen = saw(rig)
    assert len(seen) == len(FOUNDING)
    assert [seen[12], seen[14]] == ["the guest read A'", "the guest read A"]
    assert rig.proof().startswith(f"all {len(FOUNDING)} steps were seen to work")


@pytest.mark.lab
def test_a_step_that_is_not_seen_to_work_ends_the_script_and_what_was_done_is_undone(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*args: Any) -> None:
        pass

    monkeypatch.setattr(rig.lab.network, "cut", nothing)
    over = rig.outcome("choreography", steps=FOUNDING)
    assert (over["proven"], over["healed"]) == (False, True)
    assert "step 5 (cut node=x): the storage path of" in over["why"]
    assert len(saw(rig)) == 4


@pytest.mark.lab
def test_a_step_that_waits_in_vain_says_so(rig: LiveStage) -> None:
    steps = [QUIESCE, {"do": "await-in-flight", "node": "x", "timeout_s": 0.2}]
    over = rig.outcome("choreography", steps=steps)
    assert (over["proven"], over["healed"]) == (False, True)
    assert over["why"] == "step 2 (await-in-flight node=x timeout_s=0.2): it did not come in time"


@pytest.mark.lab
def test_a_migration_waits_before_its_switch_over_and_is_finished_though_the_script_is_not(
    rig: LiveStage,
) -> None:
    here = rig.stage.guest_node
    steps = [
        {"do": "begin-migration", "pause": True},
        {"do": "await-migration", "phase": "pre-switchover"},
    ]
    assert rig.outcome("choreography", steps=steps) == GOOD
    assert saw(rig)[1] == "the migration is at the switch-over"
    assert rig.stage.guest_node != here
