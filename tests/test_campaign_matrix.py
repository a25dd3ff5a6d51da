"""The matrix of a comparison: what it stands for, what is refused, and what is left out."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.campaign.cells import digest, plan_cells
from jepsen_blk.campaign.matrix import (
    BUILT_IN_MATRICES,
    built_in_matrix,
    dump_matrix,
    load_matrix,
    make_matrix,
)
from jepsen_blk.errors import SpecError, UserError


def test_every_combination_of_words_is_a_cell_in_the_order_of_the_file() -> None:
    matrix = make_matrix({"lab": ["sim"], "frontend": ["blkfront", "qemu"], "policy": ["drain", "requeue"]})
    cells, skipped = plan_cells(matrix)
    assert (len(cells), skipped) == (2 * 5 * 2, [])
    assert str(cells[0].cell) == "sim / blkfront / arrival-order / drain / lost-path-migration"
    assert str(cells[-1].cell) == "sim / qemu / drop-on-disconnect / requeue / lost-path-migration"


def test_words_become_a_specification_laid_over_the_base() -> None:
    matrix = make_matrix(
        {
            "lab": ["sim"],
            "frontend": ["qemu-reconnect"],
            "storage": ["serialize"],
            "policy": ["drain"],
            "nemesis": ["failover-cut"],
            "base": {"handoff": {"timeout_s": 4}, "workload": {"queue_depth": 3}},
        }
    )
    spec = plan_cells(matrix)[0][0].spec
    assert (spec.guest.frontend, spec.guest.reconnect_delay_s) == ("qemu", 30)
    assert (spec.handoff.policy, spec.handoff.timeout_s, spec.workload.queue_depth) == ("drain", 4, 3)
    assert (spec.storage.kind, spec.storage.conflict) == ("policy", "serialize")
    assert [(step.fault, step.options) for step in spec.nemesis] == [("failover", {"by": "cut"})]


def test_all_mistakes_are_told_at_once_each_with_its_place_and_the_choices() -> None:
    data = {
        "lab": ["ssh"],
        "policy": ["drian"],
        "storage": ["tape"],
        "nemesis": ["lost-path-migratoin"],
        "seeds": 0,
        "bogus": 1,
        "base": {"workload": {"queue_depth": -1}},
        "nemeses": {"mine": {"nemesis": [{"fault": "path-lost"}]}},
    }
    with pytest.raises(SpecError) as raised:
        make_matrix(data, "m.toml")
    told = str(raised.value)
    for part in (
        "m.toml: ",
        "lab: hosts over SSH cannot run tests yet; there are local, sim",
        "policy: no policy 'drian'; there are requeue, drain",
        "did you mean 'drain'?",
        "storage: no storage 'tape'; there are arrival-order",
        "did you mean 'lost-path-migration'?",
        "seeds: Input should be greater than or equal to 1",
        "bogus: Extra inputs are not permitted",
        "base.workload.queue_depth: Input should be greater than or equal to 1",
        "nemeses.mine: nemesis: no fault 'path-lost'",
    ):
        assert part in told, told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"base": {"lab": "sim"}}, "base: lab: the matrix says it: use its own lab"),
        ({"base": {"storage": {"conflict": "serialize"}}}, "use its own storage"),
        ({"policy": ["drain", "drain"]}, "policy: given twice: drain"),
        ({"policy": []}, "policy: .*at least 1 item"),
        ({"nemeses": {"mine": {}}, "nemesis": ["mine"]}, "nemeses.mine: give it either nemesis"),
        ({"nemeses": {"mine": {"nemesis": [{"fault": "hold", "options": {"x": 1}}]}}}, "nemeses.mine: .*x"),
    ],
    ids=str,
)
def test_a_mistake_of_the_matrix_is_named(data: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        make_matrix(data)


def test_cells_that_make_no_sense_are_left_out_with_the_reason() -> None:
    matrix = make_matrix(
        {
            "lab": ["local", "sim"],
            "frontend": ["qemu", "blkfront"],
            "storage": ["serialize", "nbdkit-memory"],
            "policy": ["requeue", "epoch"],
            "nemesis": ["lost-path-migration", "orphan"],
        }
    )
    cells, skipped = plan_cells(matrix)
    whys = {str(item.cell): item.why for item in skipped}
    assert len(cells) + len(skipped) == 32
    epoch = whys["local / qemu / nbdkit-memory / epoch / orphan"]
    assert epoch.startswith("handoff.policy 'epoch' needs a storage that can fence")
    assert "needs lab = 'sim'" in whys["local / blkfront / serialize / requeue / orphan"]
    assert "policy target only" in whys["sim / qemu / nbdkit-memory / requeue / orphan"]
    assert "local / qemu / nbdkit-memory / requeue / orphan" not in whys


def test_a_matrix_of_which_no_cell_can_be_run_is_an_error_that_says_why() -> None:
    matrix = make_matrix({"frontend": ["blkfront"], "policy": ["drain"], "storage": ["serialize"]})
    with pytest.raises(SpecError, match=r"no cell of the matrix can be run: guest.frontend 'blkfront' needs"):
        plan_cells(matrix)


@pytest.mark.parametrize(
    ("name", "cells", "cannot_fence"), [("truth-table", 135, 0), ("lab-table", 25, 0), ("stock-table", 34, 8)]
)
def test_a_matrix_that_comes_with_the_tester_is_whole(name: str, cells: int, cannot_fence: int) -> None:
    planned, skipped = plan_cells(load_matrix(built_in_matrix(name)))
    assert (len(planned), sum("can fence" in cell.why for cell in skipped)) == (cells, cannot_fence)
    assert len(skipped) == cannot_fence


def test_an_unknown_built_in_matrix_is_refused_with_the_choices() -> None:
    with pytest.raises(UserError, match="no matrix 'truth'; there are truth-table, lab-table, stock-table"):
        built_in_matrix("truth")
    assert all(built_in_matrix(name).is_file() for name in BUILT_IN_MATRICES)


def test_what_is_written_down_is_complete_and_the_same_matrix(tmp_path: Path) -> None:
    matrix = make_matrix({"lab": ["sim"], "nemesis": ["failover-cut"]})
    text = dump_matrix(matrix)
    assert make_matrix(tomllib.loads(text)) == matrix
    told = tomllib.loads(text)
    assert (told["seeds"], told["stop"]["failures"]) == (20, 3)
    assert told["nemeses"]["failover-cut"]["nemesis"][0]["options"] == {"by": "cut"}


def test_a_digest_is_of_all_that_changes_a_run_but_the_seed() -> None:
    spec = plan_cells(make_matrix({"lab": ["sim"], "policy": ["drain"], "storage": ["serialize"]}))[0][0].spec
    assert digest(spec) == digest(spec.model_copy(update={"seed": 7, "name": "other"}))
    assert digest(spec) != digest(spec.model_copy(update={"time_limit_s": 7.0}))


def test_a_matrix_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing.toml: cannot read the matrix"):
        load_matrix(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("seeds = = 3")
    with pytest.raises(SpecError, match=r"bad.toml: not valid TOML"):
        load_matrix(tmp_path / "bad.toml")
