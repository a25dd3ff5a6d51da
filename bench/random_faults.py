"""Specifications whose faults are drawn from the whole catalogue, for soaks: a seed makes one of them.

The founding case is drawn most often, the rest by what a machine is likely to meet. A fault that the
catalogue has and no table here knows comes with its defaults and the weight 1. Options that can prove
nothing (a reset of the migration link while nothing moves, or of a node that may have none) are not drawn.
"""

import os
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

from jepsen_blk.errors import SpecError
from jepsen_blk.lab.choose import prepare_lab
from jepsen_blk.spec import Spec, make_spec
from nemesis.catalogue import FAULTS, make_fault
from nemesis.demands import Impairing
from nemesis.schedule import check_faults

STAGGER_S = 0.3
FLUSH_SHARE = 0.3
"""Of the seeds whose storage has a flush."""
CACHE_SHARE = 0.5
"""Of these, those with a volatile cache; without one every write of the guest carries FUA."""
WEIGHTS = {
    "lost-path-migration": 12,
    "hold": 2,
    "path-loss": 2,
    "migrate": 2,
    "reset": 2,
    "freeze": 1.5,
    "pause": 1.5,
    "power-loss": 2,
    "split-brain": 0.5,
    "postcopy-loss": 0.5,
}
DRAWN = sorted(FAULTS.keys() - {"choreography"})
"""A script says its own order of things, so there is none to draw."""
_SHORT = {"min": 0.2, "max": 1.5}
_YES_OR_NO = {"one_of": [False, True]}
_WHERE = {
    "duration_s": _SHORT,
    "node": {"one_of": ["guest", "other"]},
    "path": {"one_of": ["storage", "migration", "all"]},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "lost-path-migration": {"hold_max_s": {"min": 3.0, "max": 6.0}, "heal_before_migration": _YES_OR_NO},
    "failover": {
        "by": {"one_of": ["kill", "stop", "cut"]},
        "duration_s": _SHORT,
        "overlap_s": {"min": 0.1, "max": 1.0},
    },
    "clock-jump": {"duration_s": _SHORT, "jump_s": {"one_of": [-3600.0, -60.0, 60.0, 86400.0]}},
    "hold": {"duration_s": _SHORT},
    "migrate-pause": {"duration_s": _SHORT},
    "path-loss": {**_WHERE, "reset": _YES_OR_NO},
    "one-way": {**_WHERE, "lost": {"one_of": ["requests", "answers"]}},
    "flapping": {**_WHERE, "duration_s": {"min": 0.1, "max": 0.5}, "times": {"min": 2, "max": 4}},
    "reset": {**_WHERE, "node": "guest", "path": {"one_of": ["storage", "all"]}},
    "loss": {**_WHERE, "percent": {"min": 5.0, "max": 30.0}},
    "slow-link": {**_WHERE, "mbit_per_s": {"min": 5.0, "max": 50.0}},
    "latency": {**_WHERE, "delay_ms": {"min": 10.0, "max": 50.0}},
    "migrate": {
        "mode": {"one_of": ["precopy", "precopy", "postcopy"]},
        "kill_source": _YES_OR_NO,
        "settle_s": {"min": 0.1, "max": 0.5},
    },
    "migrate-cancel": {
        "by": {"one_of": ["cancel", "cut", "kill-destination"]},
        "point": {"min": 0.0, "max": 0.8},
    },
    "pause": {"duration_s": {"min": 0.4, "max": 1.5}},
    "freeze": {"duration_s": {"min": 0.4, "max": 1.5}, "node": {"one_of": ["guest", "storage"]}},
    "split-brain": {"duration_s": {"min": 0.1, "max": 1.0}},
    "postcopy-loss": {"duration_s": _SHORT},
    "io-error": {
        "duration_s": _SHORT,
        "requests": {"one_of": [["write"], ["read"], ["read", "write"]]},
        "applied": _YES_OR_NO,
        "limit": {"one_of": [0, 3]},
    },
    "disk-full": {"duration_s": _SHORT},
    "slow-storage": {"duration_s": _SHORT, "delay_ms": {"min": 10.0, "max": 100.0}},
    "slow-flush": {"duration_s": _SHORT, "delay_ms": {"min": 10.0, "max": 100.0}},
    "storage-restart": {"duration_s": _SHORT},
    "power-loss": {"duration_s": _SHORT},
}


def random_spec(
    seed: int, test: dict[str, Any], storage: dict[str, Any], without: Collection[str] = ()
) -> Spec:
    """Return the specification of a seed: `test` and `storage` with a schedule of what the storage offers.

    No fault of `without` is in it. The storage has a flush or not by the seed, and a volatile cache.
    """
    flush = Random(f"flush {seed}").random() < FLUSH_SHARE
    cache = "volatile" if flush and Random(f"cache {seed}").random() < CACHE_SHARE else "none"
    base = {**test, "seed": seed, "storage": {**storage, "flush": flush, "cache": cache}}
    items = [_item(name, flush) for name in DRAWN if name not in without]
    offered = [item for item in items if _offers(base, item)]
    return make_spec(_with_schedule(base, offered))


async def unoffered() -> dict[str, str]:
    """Return what this machine's lab cannot do at all, with the reason."""
    prepared = await prepare_lab(Spec())
    reasons = {}
    for name in DRAWN:
        fault = make_fault(name, {})
        reason = await prepared.why_not(fault.impairment()) if isinstance(fault, Impairing) else ""
        if name == "postcopy-loss" and not _has_postcopy():
            reason = "post-copy needs root or vm.unprivileged_userfaultfd=1"
        if reason:
            reasons[name] = reason
    return reasons


def _item(name: str, flush: bool) -> dict[str, Any]:
    options = dict(OPTIONS.get(name, {}))
    if name == "lost-path-migration" and flush:
        options["heal_before_migration"] = True  # a flush over a dead path would end the migration
    if name == "migrate" and not _has_postcopy():
        options["mode"] = "precopy"
    return {"fault": name, "weight": WEIGHTS.get(name, 1), "options": options}


def _offers(base: dict[str, Any], item: dict[str, Any]) -> bool:
    try:
        check_faults(make_spec(_with_schedule(base, [item])))
    except SpecError:
        return False
    return True


def _with_schedule(base: dict[str, Any], items: list[dict[str, Any]]) -> dict[str, Any]:
    return {**base, "schedule": {"kind": "mix", "stagger_s": STAGGER_S, "items": items}}


def _has_postcopy() -> bool:
    setting = Path("/proc/sys/vm/unprivileged_userfaultfd")
    return os.geteuid() == 0 or (setting.is_file() and setting.read_text().strip() == "1")
