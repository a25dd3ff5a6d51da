"""The register workload: a seed, its mix, and its hot set."""

from typing import Any

import pytest

from jepsen_blk.workload_spec import RegisterSpec
from workloads import testing
from workloads.agent.operations import BURST, FLUSH, READ, WRITE
from workloads.testing import Drawn

DEFAULTS = RegisterSpec()


def draw(count: int = 20_000, seed: int = 1, **changes: Any) -> list[Drawn]:
    """Return the first operations of the default workload with these changes."""
    return testing.draw(RegisterSpec(**changes), count, seed)


def share(part: int, whole: int) -> float:
    return part / whole


def test_a_seed_determines_every_operation() -> None:
    assert draw(seed=5) == draw(seed=5)
    assert draw(seed=5) != draw(seed=6)


def test_the_fractions_of_the_default_mix_are_kept() -> None:
    operations = draw()
    kinds = [kind for kind, _ in operations]
    hot = [kind for kind, block in operations if block < DEFAULTS.hot_blocks]
    hot_writes = [kind for kind in hot if kind != READ]
    assert share(kinds.count(READ), len(kinds)) == pytest.approx(0.3, abs=0.02)
    assert share(len(hot), len(kinds)) == pytest.approx(0.5, abs=0.02)
    assert share(hot_writes.count(BURST), len(hot_writes)) == pytest.approx(0.1, abs=0.02)


def test_bursts_happen_in_the_hot_set_only() -> None:
    assert {block for kind, block in draw(burst_fraction=1.0) if kind == BURST} <= set(range(8))


def test_every_block_is_drawn_and_none_beyond() -> None:
    assert {block for _, block in draw(blocks=100, hot_blocks=5)} == set(range(100))


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"read_fraction": 1.0}, {READ}),
        ({"read_fraction": 0.0, "burst_fraction": 0.0}, {WRITE}),
        ({"read_fraction": 0.0, "burst_fraction": 1.0, "hot_fraction": 1.0}, {BURST}),
    ],
)
def test_an_extreme_fraction_leaves_one_kind(changes: dict[str, float], kinds: set[int]) -> None:
    assert {kind for kind, _ in draw(**changes)} == kinds


def test_flushes_take_the_place_of_their_share_of_the_operations() -> None:
    operations = draw(flush_fraction=0.1)
    assert share(operations.count((FLUSH, 0)), len(operations)) == pytest.approx(0.1, abs=0.01)
    rest = [kind for kind, _ in operations if kind != FLUSH]
    assert share(rest.count(READ), len(rest)) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({"hot_blocks": 0}, set(range(16))),
        ({"hot_blocks": 16}, set(range(16))),
        ({"hot_blocks": 2, "hot_fraction": 1.0}, {0, 1}),
        ({"hot_blocks": 2, "hot_fraction": 0.0}, set(range(2, 16))),
        ({"blocks": 1, "hot_blocks": 1}, {0}),
    ],
)
def test_the_hot_set_may_be_empty_or_everything(changes: dict[str, Any], blocks: set[int]) -> None:
    assert {block for _, block in draw(**{"blocks": 16, **changes})} == blocks


def test_the_largest_disk_is_drawn_to_its_end() -> None:
    blocks = 1 << 20
    drawn = [block for _, block in draw(blocks=blocks, hot_blocks=0)]
    assert max(drawn) < blocks
    assert max(drawn) > blocks * 0.999
