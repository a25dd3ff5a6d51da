"""Comparisons made up for their report: cells as a campaign sums them up, and the folder that has them."""

from pathlib import Path
from typing import Any

import msgspec

from jepsen_blk.campaign.rows import Cell
from jepsen_blk.campaign.summary import CellSummary, Cost, Judgement, Share

MODELS = ("arrival-order", "ignore-second", "serialize")
NO_COST = Cost(None, None, None, None, None, None, None)


def summary(
    policy: str = "requeue",
    storage: str = "arrival-order",
    judgement: Judgement = "safe",
    *,
    lab: str = "sim",
    frontend: str = "qemu",
    nemesis: str = "lost-path-migration",
    runs: int = 50,
    **other: Any,
) -> CellSummary:
    """Return a cell of 50 runs: 40 failed if it is unsafe, none was judged if it is unknown."""
    failed = {
        "unsafe": Share(40, runs, 0.67, 0.89),
        "unknown": Share(0, 0, 0.0, 1.0),
        "undecided": Share(0, 20, 0.0, 0.15),
        "safe": Share(0, runs, 0.0, 0.06),
    }[judgement]
    known: dict[str, Any] = {
        "decided": "a run failed" if judgement == "unsafe" else "",
        "kinds": {"stale-overwrite": failed} if failed.count else {},
        "unknown": runs - failed.of,
        "why_unknown": {"no write was in flight": runs - failed.of} if runs > failed.of else {},
        "migrations": runs,
        "in_flight": 3 * runs,
        "reissues": 2 * runs,
        "indeterminate": 0,
        "cost": Cost(100.0, 900.0, 2.0, 4.0, 5000.0, 1.5, 0.8),
        "failing": "",
        "passing": "",
        "repeat": f"jepsen-blk replay runs/{policy}",
        "failed": failed,
    }
    cell = Cell(lab, frontend, storage, policy, nemesis)
    return CellSummary(cell=cell, judgement=judgement, runs=runs, **(known | other))


def table(policy: str, judgements: str, **where: Any) -> list[CellSummary]:
    """Return a policy's cells, a letter each in the order of MODELS: unsafe, safe, open, no verdict."""
    meant: dict[str, Judgement] = {"u": "unsafe", "s": "safe", "o": "undecided", "n": "unknown"}
    return [
        summary(policy, model, meant[letter], **where)
        for model, letter in zip(MODELS, judgements, strict=False)
    ]


def save(folder: Path, cells: list[CellSummary], **told: Any) -> Path:
    """Write the comparison's folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    comparison = {"name": "policies", "about": "", "command": "jepsen-blk compare m.toml", "begun": "today"}
    (folder / "comparison.json").write_bytes(msgspec.json.encode({**comparison, **told, "cells": cells}))
    return folder
