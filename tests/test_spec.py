"""Specifications: every mistake named at once, with its place and the choices."""

from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.errors import SpecError
from jepsen_blk.spec import dump_spec, load_spec, make_spec


def test_a_dumped_specification_loads_to_the_same(tmp_path: Path) -> None:
    spec = make_spec(
        {
            "seed": 7,
            "stop_on_fail": True,
            "storage": {"conflict": "serialize", "write_latency_ms": 1.5},
            "nemesis": [{"fault": "migrate", "repeat": 2, "options": {"settle_s": 0.1}}],
        }
    )
    file = tmp_path / "spec.toml"
    file.write_text(dump_spec(spec))
    assert load_spec(file) == spec


def test_a_dumped_stock_specification_loads_to_the_same(tmp_path: Path) -> None:
    spec = make_spec({"storage": {"kind": "nbdkit-memory"}})
    file = tmp_path / "spec.toml"
    file.write_text(dump_spec(spec))
    assert load_spec(file) == spec


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"handoff": {"policy": "pray"}}, "handoff.policy: Input should be 'requeue'"),
        (
            {"workload": {"queue_depth": 0}},
            "workload.queue_depth: Input should be greater than or equal to 1",
        ),
        ({"workload": {"blocks": 4}}, "workload: hot_blocks (8) is more than blocks (4)"),
        ({"name": "../up"}, "name: String should match pattern"),
        (
            {"storage": {"kind": "nbdkit-memory", "conflict": "serialize"}},
            "conflict can be set for kind 'policy' only",
        ),
        ({"storage": {"cache": "volatile"}}, "cache 'volatile' needs flush = true"),
        ({"storage": {"flush": True, "ignore_flush": True}}, "ignore_flush needs cache = 'volatile'"),
        (
            {"storage": {"kind": "qemu-storage-daemon", "cache": "volatile"}},
            "cache can be set for kind 'policy' only",
        ),
        ({"workload": {"flush_fraction": 0.1}}, "set storage.flush = true"),
        (
            {"storage": {"kind": "nbdkit-memory"}, "handoff": {"policy": "epoch"}},
            "handoff.policy 'epoch' needs a storage that can fence; nbdkit-memory can be used with requeue",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(data: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec(data, origin="spec.toml")
    assert str(caught.value).startswith("spec.toml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("storage", "workload", "fraction"),
    [
        ({"flush": True}, {}, 0.0),
        ({"flush": True, "cache": "volatile"}, {}, 0.02),
        ({"flush": True, "cache": "volatile"}, {"blocks": 16}, 0.02),
        ({"flush": True, "cache": "volatile"}, {"flush_fraction": 0.0}, 0.0),
        ({"flush": True}, {"flush_fraction": 0.1}, 0.1),
    ],
)
def test_the_guest_flushes_where_there_is_a_volatile_cache_unless_it_is_told_otherwise(
    storage: dict[str, Any], workload: dict[str, Any], fraction: float
) -> None:
    spec = make_spec({"storage": storage, "workload": workload})
    assert spec.workload.flush_fraction == fraction


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        make_spec({"seed": -1, "time_limit_s": 0, "handoff": {"policy": "pray"}})
    assert all(place in str(caught.value) for place in ("seed", "time_limit_s", "handoff.policy"))


def test_options_lie_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('seed = 3\n[storage]\nconflict = "serialize"\nwrite_latency_ms = 9\n')
    spec = load_spec(file, {"storage": {"conflict": "reject-busy"}})
    assert (spec.seed, spec.storage.conflict.value, spec.storage.write_latency_ms) == (3, "reject-busy", 9)
