"""The options of the network faults, a lab that lacks the means for one, and what latency takes for proof."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fake_lab import PreparedFakeLab

from jepsen_blk import controller
from jepsen_blk.controller import run_test
from jepsen_blk.errors import SpecError, UserError
from jepsen_blk.lab.paths import Echoes, Impairment, Latency, Loss, Path_
from jepsen_blk.spec import Spec, make_spec
from nemesis.catalogue import make_fault
from nemesis.testing.lab import ScriptedLab
from nemesis.testing.life import live


@pytest.mark.parametrize(
    ("fault", "options", "said"),
    [
        ("one-way", {"lost": "both"}, "lost: Input should be 'requests' or 'answers', not 'both'"),
        ("path-loss", {"node": "z"}, "node: Input should be 'guest' or 'other', not 'z'"),
        ("reset", {"path": "disk"}, "path: Input should be 'storage', 'migration' or 'all', not 'disk'"),
        ("loss", {"percent": 100}, "percent: Input should be less than or equal to 90, not 100"),
        ("slow-link", {"mbit_per_s": 0}, "mbit_per_s: Input should be greater than or equal to 0.5, not 0"),
        ("flapping", {"times": 1}, "times: Input should be greater than or equal to 2, not 1"),
        ("latency", {"delay_ms": 1}, "delay_ms: Input should be greater than or equal to 5, not 1"),
        ("latency", {"duration_s": 0}, "duration_s: Input should be greater than 0, not 0"),
        ("one-way", {"reset": True}, "reset: Unexpected keyword argument"),
    ],
)
def test_a_mistaken_option_is_named_with_the_choices(fault: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_fault(fault, options)
    assert str(caught.value) == f"nemesis {fault}: {said}"


class LabWithoutNetem(PreparedFakeLab):
    """Its kernel has no netem; it must not be brought up."""

    async def why_not(self, wanted: Impairment) -> str:
        return "unknown qdisc netem" if isinstance(wanted, Latency) else ""

    async def up(self, *args: Any) -> Any:
        pytest.fail("the lab was brought up")


def test_a_fault_that_the_lab_cannot_do_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare(spec: Spec) -> LabWithoutNetem:
        return LabWithoutNetem(tmp_path, ())

    monkeypatch.setattr(controller, "prepare_lab", prepare)
    spec = make_spec({"nemesis": [{"fault": "loss"}, {"fault": "latency"}]})
    with pytest.raises(UserError, match=r"^nemesis latency: this lab cannot do it: unknown qdisc netem$"):
        asyncio.run(run_test(spec, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def echoes(rtt_ms: float, *, duplicates: int = 0, out_of_order: int = 0) -> Echoes:
    return Echoes(100, 100, duplicates, out_of_order, rtt_ms, 1.0)


@pytest.mark.parametrize(
    ("during", "after", "proven", "healed"),
    [
        (echoes(21, duplicates=3, out_of_order=2), echoes(1), True, True),
        (echoes(1, duplicates=3, out_of_order=2), echoes(1), False, True),
        (echoes(21, out_of_order=2), echoes(1), False, True),
        (echoes(21, duplicates=3), echoes(1), False, True),
        (echoes(21, duplicates=3, out_of_order=2), echoes(21), True, False),
    ],
    ids=["all-seen", "no-delay", "no-duplicate", "in-order", "still-late"],
)
def test_latency_is_proven_by_all_that_was_asked_for(
    during: Echoes, after: Echoes, proven: bool, healed: bool
) -> None:
    lab, probes = ScriptedLab(), [echoes(1), during]

    async def echo(node: str, path: Path_, count: int) -> Echoes:
        return probes.pop(0) if probes else after

    lab.network.echo = echo
    options = {"delay_ms": 20, "reorder_percent": 10, "duplicate_percent": 10}
    life = live(make_fault("latency", options), lab)
    assert (life.proven, life.healed) == (proven, healed)


def test_impairments_are_told_apart_by_their_numbers() -> None:
    assert len({Loss(1), Loss(1), Loss(2), Latency(1)}) == 3
