"""The oracle is tested itself: every kind of damage, planted into clean histories of every shape, is found.

What counts as found: under the plant's deadline the result has one anomaly, of the planted kind and in the
planted block; its witness contradicts an atomic register by a search over all orders; and without any one of
its operations it no longer does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from brute_force import contradicts
from histories import Op, atomic, history
from test_anomalies import PLANTS

from jepsen_blk.checker.anomalies import KINDS, Anomaly
from jepsen_blk.checker.verdict import check
from jepsen_blk.deadline import Deadline
from jepsen_blk.history.record import Fence, History, Outcome

NAMES = ("f", "outcome", "process", "boot", "block", "value", "start", "finish")
OTHER_RULES = {"durability-loss", "split-survivor"}
"""Kinds that contradict more than an atomic register: their own tests plant them."""
PLANT_BOOT = 7
FRESH, ELSEWHERE = 100_000, 100_001
SHIFT = 100
SEEDS = (1, 2)


def in_boots(clean: History, boots: int) -> History:
    """Give the operations to boots by their start, each fenced after all of its own have ended."""
    edges = np.linspace(0, clean.start.max() + 1, boots + 1)
    boot = np.searchsorted(edges, clean.start, side="right").astype(np.int32) - 1
    ends = [int(clean.finish[boot == place].max()) for place in range(boots)]
    fences = tuple(Fence(end + 1, place) for place, end in enumerate(ends))
    return replace(clean, boot=boot, fences=fences)


def clean_history(shape: str, seed: int) -> History:
    """Make a history in which every indeterminate write that took effect did so before its error."""
    if shape == "few blocks":
        return atomic(seed, ops=400, blocks=2, closed=True)
    if shape == "many blocks":
        return atomic(seed, ops=2000, blocks=400, closed=True)
    if shape == "a hot block":
        return atomic(seed, ops=500, blocks=1, closed=True)
    if shape == "a deep queue":
        return atomic(seed, ops=800, blocks=3, processes=64, closed=True)
    if shape == "indeterminate writes":
        return atomic(seed, ops=800, blocks=5, info=0.6, closed=True)
    if shape == "fences":
        return in_boots(atomic(seed, ops=800, blocks=5, info=0.3, closed=True), 1)
    return in_boots(atomic(seed, ops=800, blocks=5, info=0.2, closed=True), 6)


SHAPES = (
    *("few blocks", "many blocks", "a hot block", "a deep queue"),
    *("indeterminate writes", "fences", "several boots"),
)


def plant(clean: History, ops: list[Op], place: str) -> tuple[History, int]:
    """Put the operations on a block of their own in the midst of the history, or behind all of block 0."""
    fresh = place == "on a fresh block"
    block = FRESH if fresh else 0
    begin = SHIFT + (int(np.median(clean.start)) if fresh else int(clean.start.max()) + 1)
    planted = history(
        op._replace(
            start=begin + op.start,
            finish=None if op.finish is None else begin + op.finish,
            block=ELSEWHERE if op.block else block,
            boot=PLANT_BOOT,
            process=number,
        )
        for number, op in enumerate(ops)
    )
    columns = {name: np.append(getattr(clean, name), getattr(planted, name)) for name in NAMES}
    order = np.random.default_rng(len(clean)).permutation(len(clean) + len(planted))
    return History(
        **{name: column[order] for name, column in columns.items()},
        fences=(*clean.fences, Fence(begin + 15, PLANT_BOOT)),
    ), block


def faults_of(damaged: History, found: tuple[Anomaly, ...], kind: str, block: int, deadline: Deadline) -> str:
    """Say what is wrong with what was found, or nothing."""
    if [(anomaly.kind, anomaly.block) for anomaly in found] != [(kind, block)]:
        return f"found {[(anomaly.kind, anomaly.block) for anomaly in found]}"
    witness = list(found[0].ops)
    if not contradicts(damaged, witness, deadline):
        return f"witness {witness} contradicts nothing"
    larger = [row for row in witness if contradicts(damaged, [r for r in witness if r != row], deadline)]
    if larger:
        return f"witness {witness} does not need {larger}"
    blocks = set(damaged.block[witness].tolist()) - ({ELSEWHERE} if kind == "misdirected" else set())
    return "" if blocks == {block} else f"witness on blocks {blocks}"


def test_every_planted_anomaly_is_found_in_histories_of_every_shape() -> None:
    found: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    missed = []
    for shape in SHAPES:
        for seed in SEEDS:
            clean = clean_history(shape, seed)
            for name, (kind, ops, _, deadline) in PLANTS.items():
                if kind in OTHER_RULES:
                    continue
                for place in ("on a fresh block", "behind a used block"):
                    damaged, block = plant(clean, ops, place)
                    if deadline is Deadline.ERROR:
                        damaged = replace(damaged, fences=clean.fences)
                    fault = faults_of(damaged, check(damaged, deadline).anomalies, kind, block, deadline)
                    planted[kind] += 1
                    found[kind] += not fault
                    missed += [f"{name} ({kind}), {shape}, seed {seed}, {place}: {fault}"] if fault else []
    score = found.total() / planted.total()
    print(
        f"kill score {score:.1%}: {found.total()} of {planted.total()} plants of {len(planted)} kinds found"
    )
    assert missed == []
    assert set(planted) == set(KINDS) - OTHER_RULES


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_planted_into_is_clean(shape: str) -> None:
    for seed in SEEDS:
        clean = clean_history(shape, seed)
        for deadline in Deadline:
            assert check(clean, deadline).verdict == "pass"
    opened = np.count_nonzero(clean.outcome == Outcome.INFO)
    assert opened > 0
    assert len({fence.boot for fence in clean.fences}) == {"fences": 1, "several boots": 6}.get(shape, 0)
