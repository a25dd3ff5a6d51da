"""The part of docs/policies.md that is made, not written: what simulator and local lab say, cell by cell.

`python -m jepsen_blk.report.comparison.policies_page SIM_DIR LAB_DIR... docs/policies.md` writes it anew from
one comparison on the simulator and others on the lab. A simulator is worth what it has in common with the
real thing, so a disagreement without an explanation is an error, and the page stays as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.campaign.rows import Cell
from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.errors import EXIT_PASS, EXIT_USER, UserError
from jepsen_blk.report.comparison.explanations import EXPLANATIONS, Explanation, load_explanations
from jepsen_blk.report.comparison.folder import Comparison, load_comparison
from jepsen_blk.report.comparison.groups import Group, groups_of
from jepsen_blk.report.comparison.tables import legend, table, truth_table
from jepsen_blk.report.comparison.wording import SYMBOLS

BEGIN, END = "<!-- truth table: begin -->", "<!-- truth table: end -->"
_SIM, _LOCAL = "sim", "local"
Found = tuple[Comparison, tuple[CellSummary, ...]]
"""A comparison, and those of its cells that are of one lab."""
_USAGE = "usage: python -m jepsen_blk.report.comparison.policies_page SIM_DIR LAB_DIR... docs/policies.md"


@dataclass(frozen=True, slots=True)
class Pair:
    """A cell as both labs judge it."""

    sim: CellSummary
    local: CellSummary

    @property
    def sign(self) -> str:
        """Return = where they say the same, ≠ where they do not, and nothing where neither says anything.

        Where neither has a failure, one of them may want more runs.
        """
        judged = {self.sim.judgement, self.local.judgement}
        if judged == {"unknown"}:
            return ""
        return "=" if len(judged) == 1 or judged == {"safe", "undecided"} else "≠"

    def __str__(self) -> str:
        cell = self.sim.cell
        where = " / ".join((cell.frontend, cell.storage, cell.policy, cell.nemesis))
        return f"{where} (simulator {self.sim.judgement}, local lab {self.local.judgement})"


def write(sim_dir: Path, local_dirs: Sequence[Path], page: Path, explanations: Sequence[Explanation]) -> None:
    """Replace what is between the page's markers.

    Raises UserError where a comparison or the page cannot be used, and where a disagreement has no
    explanation.
    """
    sim = _of_lab(load_comparison(sim_dir), _SIM, sim_dir)
    made = section(sim, [_of_lab(load_comparison(one), _LOCAL, one) for one in local_dirs], explanations)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise UserError(
            f"{page}: has no place for the truth table; put {BEGIN} and {END} into it, a line each"
        )
    page.write_text(f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}", encoding="utf-8")


def section(sim: Found, local: Sequence[Found], explanations: Sequence[Explanation]) -> str:
    """Return the tables of both labs and their comparison in Markdown; raises UserError as `write` does."""
    parts = [legend()]
    for name, (comparison, cells) in (("Simulator", sim), *(("Local lab", one) for one in local)):
        runs = sum(cell.runs for cell in cells)
        parts.append(f"### {name}: {comparison.name}\n\n{runs:,} runs of `{comparison.command}`.")
        parts += [f"**{_told(group)}**\n\n{truth_table(group)}" for group in groups_of(cells)]
    parts += _side_by_side(sim[1], [cell for _, cells in local for cell in cells], explanations)
    return "\n\n".join(parts)


def _side_by_side(
    sim: Sequence[CellSummary], local: Sequence[CellSummary], explanations: Sequence[Explanation]
) -> list[str]:
    real = {_without_lab(summary.cell): summary for summary in local}
    pairs = {
        summary.cell: Pair(summary, real[_without_lab(summary.cell)])
        for summary in sim
        if _without_lab(summary.cell) in real
    }
    reasons = _reasons([pair for pair in pairs.values() if pair.sign == "≠"], explanations)
    signs = [pair.sign for pair in pairs.values()]
    parts = [
        "### Simulator against local lab",
        f"Of {len(pairs)} cells that both have, they agree on {signs.count('=')}, differ on "
        f"{signs.count('≠')}, and {signs.count('')} neither could judge. "
        "The simulator's judgement comes first. "
        f"{_alone(len(sim) - len(pairs), 'the simulator')} {_alone(len(real) - len(pairs), 'the local lab')}",
    ]
    for group in groups_of([pair.sim for pair in pairs.values()]):
        rows = [("policy \\ storage", *group.storages)]
        for policy in group.policies:
            cells = (group.cells.get((policy, storage)) for storage in group.storages)
            rows.append((policy, *(_entry(pairs[cell.cell], reasons) if cell else "" for cell in cells)))
        parts.append(f"**{_told(group)}**\n\n{table(rows)}")
    if reasons:
        parts.append("\n".join(f"{number}. {why}" for number, why in enumerate(reasons.values(), start=1)))
    return parts


def _reasons(disagreements: Sequence[Pair], explanations: Sequence[Explanation]) -> dict[Explanation, str]:
    """Return the explanations that are needed, in order; UserError names the cells that have none."""
    reasons: dict[Explanation, str] = {}
    bare = []
    for pair in disagreements:
        explanation = _explanation(pair, explanations)
        if explanation is None:
            bare.append(str(pair))
        else:
            reasons[explanation] = explanation.why
    if bare:
        raise UserError(
            f"simulator and local lab disagree without an explanation on {'; '.join(bare)}: "
            f"find out why, and say so in {EXPLANATIONS.name}"
        )
    return reasons


def _explanation(pair: Pair, explanations: Sequence[Explanation]) -> Explanation | None:
    judged = (pair.sim.judgement, pair.local.judgement)
    return next((one for one in explanations if one.fits(pair.sim.cell, *judged)), None)


def _entry(pair: Pair, reasons: dict[Explanation, str]) -> str:
    said = f"{SYMBOLS[pair.sim.judgement]} {pair.sign} {SYMBOLS[pair.local.judgement]}"
    explanation = _explanation(pair, tuple(reasons)) if pair.sign == "≠" else None
    return f"**{said}** ({list(reasons).index(explanation) + 1})" if explanation else said


def _alone(count: int, lab: str) -> str:
    return f"{count} cells are of {lab} alone." if count else f"None is of {lab} alone."


def _told(group: Group) -> str:
    return f"Frontend {group.place.frontend}, nemesis {group.place.nemesis}"


def _of_lab(comparison: Comparison, lab: str, folder: Path) -> Found:
    cells = tuple(summary for summary in comparison.cells if summary.cell.lab == lab)
    if not cells:
        raise UserError(
            f"{folder}: has no cell of lab {lab!r}; name the simulator's comparison first, then the lab's"
        )
    return comparison, cells


def _without_lab(cell: Cell) -> tuple[str, ...]:
    return (cell.frontend, cell.storage, cell.policy, cell.nemesis)


def main(arguments: Sequence[str]) -> int:
    """Write the page named last; a mistake is a line on stderr."""
    if len(arguments) < 3:
        sys.stderr.write(f"{_USAGE}\n")
        return EXIT_USER
    sim_dir, *local_dirs, page = map(Path, arguments)
    try:
        write(sim_dir, local_dirs, page, load_explanations())
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return EXIT_PASS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
