"""The simulator: what real guests show, it shows too; one seed gives one history."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sim_run import kinds, simulate

import jepsen_blk.scenarios
from jepsen_blk.controller import run_test
from jepsen_blk.errors import InternalError, UserError
from jepsen_blk.history.events import read_events
from jepsen_blk.lab.choose import run_in_time_of
from jepsen_blk.spec import load_spec, make_spec

ROOT = Path(__file__).parent.parent
SEEDS = range(4)
FOUNDING = {"nemesis": [{"fault": "lost-path-migration"}], "storage": {"conflict": "ignore-second"}}
HELD_AND_MOVED = [
    {"do": "quiesce"},
    {"do": "hold", "node": "x", "block": 17, "name": "first"},
    {"do": "write", "block": 17, "name": "A"},
    {"do": "await-held", "hold": "first"},
    {"do": "migrate"},
    {"do": "await-reissue", "node": "y"},
    {"do": "await-write", "of": "A"},
    {"do": "write", "block": 17, "name": "A'"},
    {"do": "await-write", "of": "A'"},
    {"do": "read", "block": 17},
    {"do": "release", "hold": "first"},
    {"do": "read", "block": 17},
    {"do": "read", "block": 17},
]
BLKFRONT = {
    "guest": {"frontend": "blkfront"},
    "nemesis": [{"fault": "migrate"}],
    "storage": {"conflict": "ignore-second", "write_latency_ms": 200},
}
"""Writes are in flight for longer than the switch-over takes."""


def history(outcome: Any) -> bytes:
    return (outcome.run_dir / "history.blk").read_bytes()


@pytest.mark.parametrize("spec", [FOUNDING, BLKFRONT, {"nemesis": [{"fault": "failover"}]}], ids=str)
def test_one_seed_gives_one_history_byte_for_byte_and_another_seed_another(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    first, again = (simulate(tmp_path, seed=7, **spec) for _ in range(2))
    assert history(first) == history(again)
    for name in ("events.jsonl", "target.jsonl", "results.json"):
        assert (first.run_dir / name).read_bytes() == (again.run_dir / name).read_bytes(), name
    assert history(first) != history(simulate(tmp_path, seed=8, **spec))


def test_neither_the_order_of_hashes_nor_the_hour_enters_a_history(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from sim_run import simulate; "
        "simulate(Path(sys.argv[1]), seed=3, nemesis=[{'fault': 'lost-path-migration'}])"
    )
    histories = set()
    for number in ("1", "2"):
        store, hashes = tmp_path / number, {"PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code, str(store)], check=True, env=hashes, cwd=ROOT, timeout=60)
        histories.add((store / "latest" / "history.blk").read_bytes())
    assert len(histories) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("policy", ["requeue", "cancel-initiator", "preempt"])
def test_the_founding_case_loses_the_write_where_nobody_ends_the_first_copy(
    tmp_path: Path, policy: str, seed: int
) -> None:
    outcome = simulate(tmp_path, seed=seed, handoff={"policy": policy}, **FOUNDING)
    assert (outcome.verdict, kinds(outcome)) == ("fail", {"stale-overwrite"})
    assert outcome.results["reasons"] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("policy", ["preempt-abort", "drain", "single-writer"])
def test_a_policy_that_ends_or_awaits_the_first_copy_is_safe(tmp_path: Path, policy: str, seed: int) -> None:
    outcome = simulate(tmp_path, seed=seed, handoff={"policy": policy}, **FOUNDING)
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("conflict", ["arrival-order", "ignore-second", "serialize", "reject-busy"])
def test_healthy_migrations_lose_nothing_on_any_storage(tmp_path: Path, conflict: str, seed: int) -> None:
    storage = {"conflict": conflict, "write_latency_ms": 20}
    outcome = simulate(tmp_path, seed=seed, storage=storage, nemesis=[{"fault": "migrate", "repeat": 2}])
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [move["reissued"] for move in outcome.results["migrations"]] == [0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_blkfront_requeues_what_it_did_not_wait_for_unless_the_storage_is_drained(
    tmp_path: Path, seed: int
) -> None:
    bad = simulate(tmp_path, seed=seed, **BLKFRONT)
    assert (bad.verdict, "stale-overwrite" in kinds(bad)) == ("fail", True)
    assert bad.results["migrations"][0]["reissued"] > 0
    good = simulate(tmp_path, seed=seed, handoff={"policy": "drain"}, **BLKFRONT)
    assert (good.verdict, good.results["reasons"]) == ("pass", [])


def test_a_held_write_is_overtaken_by_its_copy_from_blkfront_and_waited_for_by_qemu(tmp_path: Path) -> None:
    script = [{"fault": "choreography", "options": {"steps": HELD_AND_MOVED}}]
    xen = simulate(tmp_path, nemesis=script, guest={"frontend": "blkfront"})
    assert (xen.verdict, kinds(xen)) == ("fail", {"stale-overwrite"})
    qemu = simulate(tmp_path, nemesis=script)
    assert (qemu.verdict, qemu.results["anomalies"]) == ("unknown", [])
    assert "step 5 (migrate): the migration from x did not end" in str(qemu.results["reasons"])


@pytest.mark.parametrize(
    "name",
    [
        *("ignored-and-completed", "ignored-while-concurrent", "requeue-path-healed", "requeue-path-lost"),
        *("resend-on-reconnect", "reset-during-drain", "frozen-node"),
    ],
)
def test_a_scenario_of_real_guests_ends_alike(tmp_path: Path, name: str) -> None:
    spec = load_spec(Path(jepsen_blk.scenarios.__file__).parent / f"{name}.toml", {"lab": "sim"})
    outcome = run_in_time_of(spec, run_test(spec, tmp_path))
    assert spec.expect is not None
    assert (outcome.verdict, kinds(outcome)) == (spec.expect.verdict, set(spec.expect.anomalies))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("pause", {}),
        ("hold", {}),
        ("path-loss", {}),
        ("path-loss", {"reset": False, "duration_s": 5}),
        ("path-loss", {"path": "migration"}),
        ("one-way", {}),
        ("flapping", {}),
        ("reset", {}),
        ("migrate-cancel", {}),
        ("migrate-cancel", {"by": "cut"}),
        ("migrate-cancel", {"by": "kill-destination"}),
        ("migrate-pause", {}),
        ("io-error", {}),
        ("disk-full", {}),
        ("slow-storage", {}),
        ("clock-jump", {}),
        ("freeze", {}),
        ("freeze", {"node": "storage"}),
    ],
    ids=str,
)
def test_a_fault_without_a_second_copy_is_proven_healed_and_harmless(
    tmp_path: Path, fault: str, options: dict[str, Any], seed: int
) -> None:
    storage = {"write_latency_ms": 20}
    outcome = simulate(tmp_path, seed=seed, storage=storage, nemesis=[{"fault": fault, "options": options}])
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    assert [(result["proven"], result["healed"]) for result in outcome.results["faults"]] == [(True, True)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("by", ["cut", "stop"])
def test_a_node_that_comes_back_writes_among_the_new_guests_writes_unless_it_is_fenced(
    tmp_path: Path, by: str, seed: int
) -> None:
    spec = {
        "seed": seed,
        "storage": {"write_latency_ms": 20},
        "nemesis": [{"fault": "failover", "options": {"by": by}}],
    }
    bad = simulate(tmp_path, **spec)
    assert (bad.verdict, kinds(bad)) == ("fail", {"fenced-zombie"})
    good = simulate(tmp_path, handoff={"policy": "preempt-abort"}, **spec)
    assert (good.verdict, good.results["reasons"]) == ("pass", [])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"nemesis": [{"fault": "storage-restart"}], "storage": {"backing": "/x"}}, "backing"),
        (
            {
                "nemesis": [{"fault": "migrate", "options": {"mode": "postcopy"}}],
                "guest": {"frontend": "blkfront"},
            },
            "migrate.*by pre-copy only",
        ),
        ({"storage": {"kind": "nbdkit-memory"}}, "policy target only"),
    ],
    ids=str,
)
def test_what_is_not_simulated_is_refused_before_the_run(
    tmp_path: Path, spec: dict[str, Any], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        simulate(tmp_path, **spec)
    assert not list(tmp_path.iterdir())


def test_a_simulated_lab_is_refused_in_real_time(tmp_path: Path) -> None:
    spec = make_spec({"lab": "sim"})
    with pytest.raises(InternalError, match="virtual time"):
        asyncio.run(run_test(spec, tmp_path))


def test_an_hour_passes_for_the_guest_and_for_all_that_is_dated(tmp_path: Path) -> None:
    pause = {"fault": "pause", "options": {"duration_s": 3600}}
    outcome = simulate(tmp_path, nemesis=[pause], time_limit_s=7200, storage={"write_latency_ms": 20})
    assert outcome.verdict == "pass"
    assert 3600 < outcome.results["duration_s"] < 3610
    times = [event.time_ns for event in read_events(outcome.run_dir / "events.jsonl")]
    assert times == sorted(times)


def test_the_command_needs_no_tool_of_the_machine(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "jepsen_blk", "test", "--lab", "sim", "--store", str(tmp_path)]
    done = subprocess.run(
        [*argv, "--conflict", "ignore-second", "--nemesis", "lost-path-migration"],
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "stale-overwrite" in done.stdout
    (run,) = (tmp_path / "register").iterdir()
    again = f"jepsen-blk replay {run}"
    assert f"again   {again}  (the same history, byte for byte)" in done.stdout
    assert again.rpartition("/")[2] in (run / "report.html").read_text()
