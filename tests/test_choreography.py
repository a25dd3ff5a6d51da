"""Scripts of an exact interleaving: refused where they cannot work, and played on a real lab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.errors import LabError, SpecError
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
        ([{"do": "cutt", "node": "x"}], r"steps\.0: no do 'cutt'; there are .*; did you mean 'cut'\?"),
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


VERBS: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    (
        "pause",
        [
            {"do": "pause", "node": "x"},
            {"do": "await-guest", "node": "x", "state": "paused"},
            {"do": "resume", "node": "x"},
            {"do": "await-guest", "node": "x", "state": "running"},
        ],
        ["the guest on {x} is paused", "the guest on {x} is paused", "the guest on {x} runs"],
    ),
    (
        "freeze",
        [{"do": "freeze", "node": "storage"}, {"do": "thaw", "node": "storage"}],
        ["the processes of storage are stopped", "the processes of storage go on"],
    ),
    (
        "freeze, left to be undone",
        [{"do": "freeze", "node": "x"}],
        ["the processes of {x} are stopped"],
    ),
    (
        "mend",
        [
            {"do": "cut", "node": "x"},
            {"do": "reset", "node": "x"},
            {"do": "mend", "node": "x"},
            {"do": "await-disk", "node": "x"},
        ],
        [
            "the storage path of {x} carries nothing new",
            "1 connection of {x} killed",
            "the storage path of {x} is whole",
            "the disk of {x} answers",
        ],
    ),
    (
        "migration in steps",
        [
            {"do": "begin-migration", "pause": True},
            {"do": "await-migration", "phase": "pre-switchover"},
            {"do": "continue-migration"},
            {"do": "await-migration", "phase": "completed"},
            {"do": "finish-migration"},
            {"do": "await-guest", "node": "x", "state": "migrated"},
        ],
        [
            "a migration from {x} has begun",
            "the migration is at the switch-over",
            "the migration goes on",
            "the migration is completed",
            "the guest runs on {y}",
        ],
    ),
    (
        "cancel",
        [{"do": "begin-migration", "mode": "unending"}, {"do": "cancel-migration"}],
        ["a migration from {x} has begun", "the migration is cancelled; the guest stays on {x}"],
    ),
    (
        "unending, left to be undone",
        [{"do": "begin-migration", "mode": "unending"}],
        ["a migration from {x} has begun"],
    ),
    (
        "destination killed",
        [
            {"do": "begin-migration", "mode": "unending"},
            {"do": "kill", "node": "y"},
            {"do": "await-migration", "phase": "failed"},
        ],
        ["a migration from {x} has begun", "the guest on {y} is absent", "the migration is failed"],
    ),
    (
        "the guest's stop in a migration",
        [
            {"do": "begin-migration"},
            {"do": "await-migration", "phase": "stopped"},
            {"do": "finish-migration"},
        ],
        ["a migration from {x} has begun", "the migration is stopping the guest", "the guest runs on {y}"],
    ),
    (
        "fail-over",
        [
            {"do": "freeze", "node": "x"},
            {"do": "fail-over"},
            QUIESCE,
            {"do": "write", "block": 3, "name": "new"},
            {"do": "read", "block": 3, "until": "new"},
            {"do": "read-all"},
            {"do": "thaw", "node": "x"},
        ],
        [
            "the processes of {x} are stopped",
            "a new guest runs on {y}",
            "the guest on {y} has nothing in flight",
        ],
    ),
    (
        "in flight",
        [{"do": "await-in-flight", "node": "x"}],
        [],
    ),
]


@pytest.mark.lab
@pytest.mark.parametrize(("steps", "seen"), [verb[1:] for verb in VERBS], ids=[verb[0] for verb in VERBS])
def test_each_verb_works_and_the_guest_works_after_it(
    rig: LiveStage, steps: list[dict[str, Any]], seen: list[str]
) -> None:
    nodes = {"x": rig.stage.guest_node, "y": rig.stage.other_node}
    assert rig.outcome("choreography", steps=steps) == GOOD
    told = saw(rig)
    assert len(told) == len(steps)
    assert told[: len(seen)] == [line.format(**nodes) for line in seen]


@pytest.mark.lab
@pytest.mark.parametrize(
    ("seam", "method", "steps", "why"),
    [
        ("lab", "freeze", [{"do": "freeze", "node": "x"}], "are not stopped"),
        ("hypervisor", "kill", [{"do": "kill", "node": "x"}], "is running, not absent"),
        ("network", "reset", [{"do": "reset", "node": "x"}], "had no connection to kill"),
        ("hypervisor", "pause", [{"do": "pause", "node": "x"}], "paused on .* did not come"),
    ],
)
def test_a_verb_that_does_nothing_is_not_proven(
    rig: LiveStage,
    monkeypatch: pytest.MonkeyPatch,
    seam: str,
    method: str,
    steps: list[dict[str, Any]],
    why: str,
) -> None:
    async def nothing(*args: Any) -> int:
        return 0

    monkeypatch.setattr(rig.lab if seam == "lab" else getattr(rig.lab, seam), method, nothing)
    over = rig.outcome("choreography", steps=steps)
    assert (over["proven"], over["healed"]) == (False, True)
    assert re.search(why, over["why"])


@pytest.mark.lab
def test_a_refused_migration_leaves_nothing_to_be_undone(
    rig: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*args: Any, **how: Any) -> None:
        raise LabError("no route")

    monkeypatch.setattr(rig.lab.hypervisor, "begin_migration", refused)
    over = rig.outcome("choreography", steps=[{"do": "begin-migration"}])
    assert (over["proven"], over["healed"]) == (False, True)
    assert over["why"] == "step 1 (begin-migration): no route"


@pytest.mark.lab
def test_a_re_issue_of_before_the_script_is_none_of_its_own(rig: LiveStage) -> None:
    assert rig.outcome("choreography", steps=FOUNDING) == GOOD
    over = rig.outcome("choreography", steps=[{"do": "await-reissue", "node": "x", "timeout_s": 0.2}])
    assert not over["proven"]
    assert over["why"].endswith("timeout_s=0.2): it did not come in time")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("begin", "phase"),
    [({}, ""), ({"pause": True}, "pre-switchover"), ({"mode": "postcopy"}, "postcopy")],
    ids=["copying", "pre-switchover", "postcopy"],
)
def test_a_source_may_be_killed_at_each_phase_of_a_migration_and_the_guest_is_started_again(
    rig: LiveStage, begin: dict[str, Any], phase: str
) -> None:
    gone, there = rig.stage.guest_node, rig.stage.other_node
    reached = [{"do": "await-migration", "phase": phase}] if phase else []
    steps = [{"do": "begin-migration", **begin}, *reached, {"do": "kill", "node": "x"}, {"do": "fail-over"}]
    assert rig.outcome("choreography", steps=steps) == GOOD
    assert saw(rig)[-2:] == [f"the guest on {gone} is absent", f"a new guest runs on {there}"]
    assert rig.stage.guest_node == there
