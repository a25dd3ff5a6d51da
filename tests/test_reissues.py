"""Re-issues as the storage counts them: of what it held, failed, or lost with a connection."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbd_client import data_of
from storage_rig import policy_target, until

from jepsen_blk.storage.reissues import Reissues


def test_a_value_counts_for_the_node_that_sends_it_again() -> None:
    reissues = Reissues()
    reissues.expect(7)
    assert [reissues.arrived("y", value) for value in (6, 7, 7)] == [False, True, True]
    assert (reissues.count("x"), reissues.count("y")) == (0, 2)


@pytest.mark.parametrize("value", [0, -1])
def test_zeros_and_unstamped_data_are_never_the_same_write(value: int) -> None:
    reissues = Reissues()
    reissues.expect(value)
    assert not reissues.arrived("x", value)
    assert not reissues.arrived("y", value)
    reissues.ended(value)


def test_a_value_counts_while_its_first_copy_is_in_flight_and_no_longer() -> None:
    reissues = Reissues()
    assert [reissues.arrived(node, 7) for node in "xyy"] == [False, True, True]
    reissues.ended(7)
    reissues.ended(7)
    assert reissues.arrived("y", 7)
    reissues.ended(7)
    reissues.ended(7)
    assert not reissues.arrived("y", 7)
    assert reissues.count("y") == 3


def test_what_was_expected_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jepsen_blk.storage.reissues._REMEMBERED", 2)
    reissues = Reissues()
    for value in (1, 2, 3):
        reissues.expect(value)
    assert [reissues.arrived("y", value) for value in (1, 2, 3)] == [False, True, True]


def test_the_target_sees_a_held_write_come_again(tmp_path: Path) -> None:
    with policy_target(tmp_path) as rig:
        x, y = rig.client("x"), rig.client("y")
        hold = rig.ask("hold", node="x", blocks=[3])["hold"]
        x.send_write(3, data_of(3, 1))
        rig.ask("wait_held", hold=hold, timeout_s=5)
        assert y.write(3, data_of(3, 2)) == 0
        assert rig.ask("reissues", node="y")["count"] == 0
        assert y.write(3, data_of(3, 1)) == 0
        rig.ask("wait_reissues", node="y", count=1, timeout_s=5)
        assert rig.refusal("wait_reissues", node="y", count=2, timeout_s=0) == "timeout"


def test_the_target_sees_a_refused_write_come_again(tmp_path: Path) -> None:
    with policy_target(tmp_path) as rig:
        x, y = rig.client("x"), rig.client("y")
        rig.ask("fence", node="x", abort=False)
        assert x.write(3, data_of(3, 1)) != 0
        assert y.write(3, data_of(3, 1)) == 0
        assert rig.ask("reissues", node="y")["count"] == 1


def test_the_target_sees_what_was_in_flight_on_a_closed_connection_come_again(tmp_path: Path) -> None:
    with policy_target(tmp_path, latency_ms=300) as rig:
        x, y = rig.client("x"), rig.client("y")
        x.send_write(3, data_of(3, 1))
        until(lambda: rig.ask("in_flight", node="x")["writes"])
        x.close()
        until(lambda: '"f":"disconnect"' in rig.log.read_text())
        assert y.write(3, data_of(3, 1)) == 0
        assert rig.ask("reissues", node="y")["count"] == 1
