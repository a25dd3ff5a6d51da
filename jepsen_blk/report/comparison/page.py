"""Writes a comparison's report: one HTML file that opens anywhere, with Markdown and CSV beside it.

The page leads with what was found, in words; then one figure has safety and cost; numbers and the way to
the runs follow. All text is escaped by the template engine.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from jepsen_blk.assumptions import Assumption, assumptions_of, run_file, untried_of
from jepsen_blk.campaign.rows import Cell
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.errors import UserError
from jepsen_blk.report.comparison import wording
from jepsen_blk.report.comparison.bars import scale_of
from jepsen_blk.report.comparison.claims import claims_of, headline_of
from jepsen_blk.report.comparison.folder import Comparison, load_comparison, read_matrix
from jepsen_blk.report.comparison.groups import Place, groups_of, policies_of, word_for
from jepsen_blk.report.comparison.tables import as_csv, as_markdown
from jepsen_blk.report.html import render_report
from jepsen_blk.report.picture import templates

_TEMPLATES = Path(__file__).parent.parent / "templates"
_PAGE, _MARKDOWN, _CSV = "index.html", "comparison.md", "comparison.csv"
_ASSUMPTIONS, _LIBRARY = "assumptions", "plotly.min.js"


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that was kept: the link to its report, or why there is none."""

    verdict: str
    run: str
    link: str
    missing: str


@dataclass(frozen=True, slots=True)
class Drill:
    """A cell as the page goes into it."""

    anchor: str
    summary: CellSummary
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """An assumption, the specification that takes it away, where that lies, and how it is run."""

    assumption: Assumption
    text: str
    link: str
    command: str


@dataclass(frozen=True, slots=True)
class Rests:
    """What a policy of the comparison rests on; `untried` is what no run takes away."""

    policy: str
    broken: tuple[Broken, ...]
    untried: str


def write_report(folder: Path) -> Path:
    """Write index.html, comparison.md and comparison.csv into the comparison's folder; return the first.

    The kept runs that the page links to get a report if they have none; the specifications that break an
    assumption are copied into `assumptions/`. Raises UserError where comparison.json cannot be read.
    """
    comparison = load_comparison(folder)
    groups = groups_of(comparison.cells)
    (folder / _MARKDOWN).write_text(as_markdown(comparison, groups), encoding="utf-8")
    (folder / _CSV).write_text(as_csv(comparison.cells), encoding="utf-8")
    path = folder / _PAGE
    path.write_text(_page(comparison, folder), encoding="utf-8")
    return path


def _page(comparison: Comparison, folder: Path) -> str:
    groups, policies = groups_of(comparison.cells), policies_of(comparison.cells)
    drills: dict[Cell, Drill] = {
        summary.cell: _drill(f"cell-{number}", summary, folder)
        for number, summary in enumerate(comparison.cells, start=1)
    }
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            groups=groups,
            headline=headline_of(comparison.cells),
            claims=claims_of(comparison.cells),
            drills=drills,
            rests=[_rests(policy, folder) for policy in policies],
            policies=policies,
            scale=scale_of(groups),
            why_not=_why_not(comparison),
            matrix=read_matrix(folder),
            runs=sum(summary.runs for summary in comparison.cells),
            unknown=sum(summary.unknown for summary in comparison.cells),
            storage_word=word_for(summary.cell.storage for summary in comparison.cells),
            say=wording,
            style=_inline("report.css") + _inline("comparison.css"),
            script=_inline("comparison.js"),
        )
    )


def _why_not(comparison: Comparison) -> Callable[[Place, str, str], str]:
    left_out = {item.cell: item.why for item in comparison.skipped}

    def why(place: Place, policy: str, storage: str) -> str:
        return left_out.get(Cell(place.lab, place.frontend, storage, policy, place.nemesis), "")

    return why


def _drill(anchor: str, summary: CellSummary, folder: Path) -> Drill:
    named = (("failing", summary.failing), ("passing", summary.passing))
    return Drill(anchor, summary, tuple(_kept(verdict, run, folder) for verdict, run in named if run))


def _kept(verdict: str, run: str, folder: Path) -> Kept:
    """See that the run has a report to be linked to; a run that cannot be shown does not cost the page."""
    run_dir = folder / run
    if not run_dir.resolve().is_relative_to(folder.resolve()):
        return Kept(verdict, run, "", "it lies outside of the comparison's folder")
    if not (run_dir / "report.html").is_file():
        try:
            render_report(run_dir, folder / _LIBRARY)
        except UserError as error:
            return Kept(verdict, run, "", str(error))
    return Kept(verdict, run, f"{quote(run)}/report.html", "")


def _rests(policy: str, folder: Path) -> Rests:
    broken = tuple(_broken(assumption, folder) for assumption in assumptions_of(policy))
    return Rests(policy, broken, untried_of(policy))


def _broken(assumption: Assumption, folder: Path) -> Broken:
    """Lay the specification beside the page, so that the command names a file that is there."""
    source = run_file(assumption.run)
    target = folder / _ASSUMPTIONS / source.name
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    return Broken(
        assumption,
        source.read_text(encoding="utf-8"),
        f"{_ASSUMPTIONS}/{source.name}",
        shlex.join(["jepsen-blk", "test", str(target)]),
    )


def _inline(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file
