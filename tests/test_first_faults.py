"""A pause, a held write, a migration and the founding case prove nothing where nothing happened."""

from collections.abc import Iterator
from typing import Any

import pytest
from live_stage import GOOD, LiveStage, live_stage

from jepsen_blk.lab.network import CommandNetwork
from jepsen_blk.lab.seams import Migration

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStage]:
    with live_stage(tmp_path_factory.mktemp("live")) as live:
        yield live


async def nothing(*_args: Any) -> int:
    """In the place of what would have injected a fault."""
    return 0


@pytest.mark.parametrize("name", ["pause", "hold", "lost-path-migration"])
def test_a_fault_proves_itself_only_if_something_was_done(
    name: str, live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {} if name == "lost-path-migration" else {"duration_s": 0.5}
    assert live.outcome(name, **options) == GOOD
    monkeypatch.setattr(live.lab.hypervisor, "pause", nothing)
    monkeypatch.setattr(CommandNetwork, "cut", nothing)
    monkeypatch.setattr(CommandNetwork, "reset", nothing)
    if name == "hold":
        monkeypatch.setattr(live.lab.storage, "hold", nothing)
        monkeypatch.setattr(live.lab.storage, "release", nothing)
    assert not live.outcome(name, **options)["proven"]


def test_a_migration_that_moved_nothing_is_not_proven(
    live: LiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live.outcome("migrate") == GOOD

    async def nothing(source: str, destination: str, mode: str = "precopy", *, pause: bool = False) -> None:
        pass

    async def claim(source: str) -> Migration:
        return Migration(source, live.stage.other_node, "precopy", 1, 2, 3, 0.0, 0.0, 0)

    monkeypatch.setattr(live.lab.hypervisor, "begin_migration", nothing)
    monkeypatch.setattr(live.lab.hypervisor, "finish_migration", claim)
    assert not live.outcome("migrate")["proven"]
