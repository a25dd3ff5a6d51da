"""The storage's log across a restart of its server: one story, in which every write has its own id."""

from pathlib import Path

import pytest
from nbd_client import data_of
from storage_rig import policy_target, until

from jepsen_blk.storage.log import TargetLog, WriteLine

BLOCK = 3


def last_id_of(path: Path) -> int:
    log = TargetLog(path)
    log.close()
    return log.last_id


def test_a_target_that_is_started_again_goes_on_with_the_ids_of_its_writes(tmp_path: Path) -> None:
    with policy_target(tmp_path, backing=tmp_path / "disk") as rig:
        x = rig.client("x")
        for sequence in (1, 2):
            x.write(BLOCK, data_of(BLOCK, sequence))
        rig.hold(x, "x", BLOCK, data_of(BLOCK, 3))
        rig.restart()
        again = rig.client("x")
        assert again.write(BLOCK, data_of(BLOCK, 3)) == 0
        until(lambda: len(rig.lines("write")) == 3)
        assert [line["id"] for line in rig.lines("held") + rig.lines("write")] == [3, 1, 2, 4]
        assert rig.ask("stats")["stats"]["received"] == 1


@pytest.mark.parametrize(
    ("left", "last_id"),
    [
        ("", 0),
        ('{"f":"connect","node":"x","time":1}\n', 0),
        ('{"f":"held","id":9,"hold":1}\n{"f":"write","id":7,"node":"x"}\n', 9),
    ],
)
def test_the_ids_of_a_log_end_with_the_greatest_of_a_write_in_it(
    left: str, last_id: int, tmp_path: Path
) -> None:
    path = tmp_path / "target.jsonl"
    path.write_text(left)
    assert last_id_of(path) == last_id


def test_the_last_id_is_found_at_the_end_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    log = TargetLog(path)
    for number in range(1, 10_001):
        log.write(WriteLine(number, "x", 1, 1, 1, 1, 1, 1, "apply", "ok", ""))
    log.close()
    assert path.stat().st_size > 1 << 20
    assert last_id_of(path) == 10_000


def test_a_line_that_a_kill_cut_short_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    path.write_text('{"f":"write","id":7,"node":"x","blo')
    log = TargetLog(path)
    log.event("connect", node="x")
    log.close()
    assert path.read_text().splitlines()[1:] == ['{"f":"connect","node":"x"}']
