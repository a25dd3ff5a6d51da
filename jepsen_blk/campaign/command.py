"""From what is asked on the command line to a comparison that runs and is shown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
from rich.console import Console

from jepsen_blk.campaign.budget import Budget, Course
from jepsen_blk.campaign.cells import Planned, Skipped, plan_cells
from jepsen_blk.campaign.matrix import Matrix, built_in_matrix, load_matrix
from jepsen_blk.campaign.pools import Pool, ProcessPool
from jepsen_blk.campaign.rows import Row
from jepsen_blk.campaign.session import Comparison, Rerun, compare
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.doctor import require_runnable
from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.report.comparing import CompareView, Extent, show_comparing, skipped_lines

_COMPARISONS = Path("comparisons")


@dataclass(frozen=True, slots=True)
class Asked:
    """What names a comparison on the command line; None where an option was not given."""

    matrix: Path | None
    builtin: str | None
    out: Path | None
    seeds: int | None
    rerun: str


class _Shown:
    """Implements session.Show on the view."""

    def __init__(self, view: CompareView) -> None:
        self._view = view

    def begin(
        self, matrix: Matrix, cells: Sequence[Planned], skipped: Sequence[Skipped], budget: Budget
    ) -> None:
        """It begins."""
        known = sum(len(course.verdicts) - course.verdicts.count(0) for course in budget.courses)
        left_out = [(item.cell, item.why) for item in skipped]
        self._view.begin(Extent(matrix.name, len(cells), matrix.seeds, left_out, known), budget.most_left)

    def row(self, row: Row) -> None:
        """A run has ended."""
        self._view.row(row)

    def decided(self, planned: Planned, course: Course) -> None:
        """A cell needs no more runs."""
        self._view.decided(planned.cell, course.decided)


def read_comparison(asked: Asked) -> Comparison:
    """Return the comparison that is asked for; raises UserError, SpecError with all mistakes."""
    if (asked.matrix is None) == (asked.builtin is None):
        raise UserError("give either a matrix file or --builtin NAME; see docs/policies.md")
    if asked.rerun not in get_args(Rerun):
        raise UserError(f"--rerun: {unknown_name('choice', asked.rerun, ('unknown', 'failed', 'all'))}")
    path = asked.matrix if asked.matrix is not None else built_in_matrix(str(asked.builtin))
    matrix = load_matrix(path, {} if asked.seeds is None else {"seeds": asked.seeds})
    cells, skipped = plan_cells(matrix)
    folder = asked.out or _COMPARISONS / matrix.name
    return Comparison(matrix, cells, skipped, folder, _command(asked))


def go(
    comparison: Comparison, jobs: int | None, cluster: str | None, rerun: str, console: Console
) -> list[CellSummary]:
    """Make the runs and show how it goes; an interrupted comparison says how to go on.

    Raises UserError as compare does, and for what this machine lacks or the cluster cannot do.
    """
    real = [planned.spec for planned in comparison.cells if planned.spec.lab != "sim"]
    if real and cluster is None:
        require_runnable(max(spec.guest.memory_mb for spec in real))
    with show_comparing(console) as view:
        try:
            pool = _pool(cluster, jobs, real=bool(real))
            chosen: Rerun = next(choice for choice in get_args(Rerun) if choice == rerun)
            return compare(comparison, pool, _Shown(view), chosen)
        except KeyboardInterrupt:
            view.close()
            again = f"`{comparison.command}` goes on"
            console.print(
                f"interrupted; every run that ended is kept in {comparison.folder}; {again}", soft_wrap=True
            )
            raise


def show_plan(
    comparison: Comparison, console: Console, *, as_json: bool, say: Callable[[str], object]
) -> None:
    """Say what would be run."""
    matrix, cells = comparison.matrix, comparison.cells
    most = matrix.runs or matrix.seeds * len(cells)
    if as_json:
        told: dict[str, Any] = {
            "name": matrix.name,
            "cells": [asdict(planned.cell) for planned in cells],
            "skipped": [asdict(item) for item in comparison.skipped],
            "most_runs": most,
        }
        say(msgspec.json.encode(told).decode())
        return
    for planned in cells:
        console.print(str(planned.cell), soft_wrap=True)
    for line in skipped_lines([(item.cell, item.why) for item in comparison.skipped]):
        console.print(line, soft_wrap=True, style="dim")
    console.print(f"{len(cells)} cells, {matrix.seeds} runs each, {most} in all at most", soft_wrap=True)


def _pool(cluster: str | None, jobs: int | None, *, real: bool) -> Callable[[], Pool]:
    if cluster is None:
        processors = os.cpu_count() or 1
        width = jobs or (max(1, processors // 2) if real else processors)
        return lambda: ProcessPool(width)
    if jobs is not None:
        raise UserError("--jobs: the workers of a cluster say how many runs they make at once; leave it out")

    from jepsen_blk.campaign.cluster import ClusterPool

    return lambda: ClusterPool(cluster, real=real)


def _command(asked: Asked) -> str:
    """Return the command that goes on with the comparison."""
    named = ["--builtin", asked.builtin] if asked.builtin else [str(asked.matrix)]
    seeds = [] if asked.seeds is None else ["--seeds", str(asked.seeds)]
    out = [] if asked.out is None else ["--out", str(asked.out)]
    return shlex.join(["jepsen-blk", "compare", *map(str, named), *seeds, *out])
