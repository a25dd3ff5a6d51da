"""One call of `jepsen-blk compare`: the folder, what is there of earlier times, the runs, and the summary.

OUT/matrix.toml        the complete matrix, defaults included
OUT/rows.jsonl         a row a line, on disk when its run ends
OUT/runs/              the folders of a few runs: of each cell the first that failed, passed, was unknown
OUT/comparison.json    what is said of each cell; written at the begin, at the end and on interruption
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from jepsen_blk.campaign.budget import Budget
from jepsen_blk.campaign.cells import Planned, Skipped
from jepsen_blk.campaign.engine import Engine, Watch
from jepsen_blk.campaign.matrix import Matrix, dump_matrix
from jepsen_blk.campaign.pools import Pool
from jepsen_blk.campaign.rowfile import RowFile
from jepsen_blk.campaign.rows import Row
from jepsen_blk.campaign.summarize import Part, summarize
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.errors import UserError

MATRIX = "matrix.toml"
COMPARISON = "comparison.json"
Rerun = Literal["none", "unknown", "failed", "all"]


class Show(Watch, Protocol):
    """Is told how a comparison goes on, from its begin."""

    def begin(
        self, matrix: Matrix, cells: Sequence[Planned], skipped: Sequence[Skipped], budget: Budget
    ) -> None:
        """It begins, or goes on."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, in which folder, and the command that goes on with it."""

    matrix: Matrix
    cells: Sequence[Planned]
    skipped: Sequence[Skipped]
    folder: Path
    command: str


def compare(
    comparison: Comparison, open_pool: Callable[[], Pool], show: Show, rerun: Rerun = "none"
) -> list[CellSummary]:
    """Make the runs that are not there yet and return what all of them show.

    What there is at the end, however it comes, is summarized in the folder. Raises UserError where the folder
    cannot be written or no run can be begun.
    """
    matrix = comparison.matrix
    budget = Budget(matrix, len(comparison.cells))
    with closing(RowFile(comparison.folder)) as rows, closing(open_pool()) as pool:
        begun = _begun(comparison.folder)
        _write(comparison.folder / MATRIX, dump_matrix(matrix))
        _drop(comparison, rows, rerun)
        engine = Engine(comparison.cells, budget, pool, rows, comparison.folder, matrix.run_limit_s, show)
        _know(comparison, rows, budget, engine)
        budget.begin()
        _summarize(comparison, rows, budget, begun)
        show.begin(matrix, comparison.cells, comparison.skipped, budget)
        try:
            engine.run()
        finally:
            summaries = _summarize(comparison, rows, budget, begun)
    return summaries


def _drop(comparison: Comparison, rows: RowFile, rerun: Rerun) -> None:
    """Forget the rows of runs that are to be made again, and their folders."""
    if rerun == "none":
        return
    verdict = {"unknown": "unknown", "failed": "fail"}.get(rerun)

    def unwanted(row: Row) -> bool:
        return verdict in (None, row.verdict)

    for row in rows.read():
        if unwanted(row) and row.run:
            shutil.rmtree(comparison.folder / row.run, ignore_errors=True)
    rows.drop(unwanted)


def _know(comparison: Comparison, rows: RowFile, budget: Budget, engine: Engine) -> None:
    """Take in the rows of an earlier time: those of the same cell and specification."""
    numbers = {planned.cell: number for number, planned in enumerate(comparison.cells)}
    for row in rows.read():
        number = numbers.get(row.cell)
        if number is not None and row.spec == comparison.cells[number].digest:
            budget.know(number, row.seed, row.verdict)
            engine.keep(number, row)


def _summarize(comparison: Comparison, rows: RowFile, budget: Budget, begun: str) -> list[CellSummary]:
    parts = [
        Part(planned, course.end, course.decided)
        for planned, course in zip(comparison.cells, budget.courses, strict=True)
    ]
    matrix = comparison.matrix
    summaries = summarize(rows.read(), parts, matrix.seeds, comparison.folder)
    told = {
        "name": matrix.name,
        "about": matrix.about,
        "command": comparison.command,
        "begun": begun,
        "cells": summaries,
        "skipped": [asdict(item) for item in comparison.skipped],
    }
    text = msgspec.json.format(msgspec.json.encode(told), indent=1).decode()
    _write(comparison.folder / COMPARISON, text + "\n")
    return summaries


def _begun(folder: Path) -> str:
    """Return when the comparison was begun, which may be long ago."""
    try:
        told = msgspec.json.decode((folder / COMPARISON).read_bytes())
        return str(told["begun"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, text: str) -> None:
    """Write a file in one step."""
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        raise UserError(f"{path}: cannot write: {error.strerror}; make room, and try again") from error
