"""A comparison in Markdown and CSV, for documents and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from jepsen_blk.campaign.summary import CellSummary
from jepsen_blk.report.comparison.claims import claims_of, headline_of
from jepsen_blk.report.comparison.folder import Comparison
from jepsen_blk.report.comparison.groups import Group, word_for
from jepsen_blk.report.comparison.wording import (
    CONFIDENCE,
    MEANINGS,
    SYMBOLS,
    counted,
    milliseconds,
    moment,
    ratio,
)

_COLUMNS = (
    *("lab", "frontend", "storage", "policy", "nemesis", "judgement", "decided", "runs"),
    *("failed", "failed_of", "failed_low", "failed_high", "unknown", "kinds", "why_unknown"),
    *("migrations", "in_flight", "reissues", "indeterminate"),
    *("blackout_p50_ms", "blackout_p99_ms", "latency_p50_ms", "latency_p99_ms", "ops_per_s"),
    *("latency_overhead", "throughput_overhead", "failing", "passing", "repeat"),
)


def as_csv(cells: Sequence[CellSummary]) -> str:
    """Return a line a cell under a line of names; what is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for summary in cells:
        cell, failed, cost = summary.cell, summary.failed, summary.cost
        kinds = "; ".join(f"{kind}: {share.count}" for kind, share in summary.kinds.items())
        reasons = "; ".join(f"{why}: {count}" for why, count in summary.why_unknown.items())
        writer.writerow(
            (
                *(cell.lab, cell.frontend, cell.storage, cell.policy, cell.nemesis),
                *(summary.judgement, summary.decided, summary.runs),
                *(failed.count, failed.of, failed.low, failed.high, summary.unknown, kinds, reasons),
                *(summary.migrations, summary.in_flight, summary.reissues, summary.indeterminate),
                *(cost.blackout_p50_ms, cost.blackout_p99_ms, cost.latency_p50_ms, cost.latency_p99_ms),
                *(cost.ops_per_s, cost.latency_overhead, cost.throughput_overhead),
                *(summary.failing, summary.passing, summary.repeat),
            )
        )
    return out.getvalue()


def as_markdown(comparison: Comparison, groups: Sequence[Group]) -> str:
    """Return the headline, the claims, and a table of safety and cost for each place."""
    parts = [f"# {comparison.name}", " ".join(headline_of(comparison.cells))]
    if comparison.about:
        parts.append(comparison.about)
    claims = [f"- **{claim.who}** {' '.join(claim.said)}" for claim in claims_of(comparison.cells)]
    parts += ["\n".join(claims), legend()]
    for group in groups:
        parts += [f"## {_escaped(str(group.place))}", truth_table(group), _cost_table(group)]
    parts += [
        f"Left out, {why}: {'; '.join(map(str, cells))}." for why, cells in comparison.reasons().items()
    ]
    parts.append(f"Made by: `{comparison.command}`, begun {moment(comparison.begun)}.")
    return "\n\n".join(parts) + "\n"


def legend() -> str:
    """Say what the symbols mean."""
    meanings = "; ".join(
        f"{SYMBOLS[judgement]} {judgement}: {meaning}" for judgement, meaning in MEANINGS.items()
    )
    return f"{meanings}. Failed runs of those judged, and the {CONFIDENCE} interval."


def truth_table(group: Group) -> str:
    """Return policies by storages in Markdown."""
    word = word_for(group.storages)
    rows = [("policy \\ " + word, *group.storages)]
    for policy in group.policies:
        cells = (group.cells.get((policy, storage)) for storage in group.storages)
        rows.append((policy, *(entry(cell) if cell else "" for cell in cells)))
    return table(rows)


def entry(summary: CellSummary) -> str:
    """Return a cell as it stands in a table."""
    unknown = f"; {summary.unknown} unknown" if summary.unknown else ""
    return f"{SYMBOLS[summary.judgement]} {counted(summary.failed)}{unknown}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(_escaped(text) for text in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _cost_table(group: Group) -> str:
    head = ("policy", "blackout p50", "blackout p99", "write latency / requeue", "throughput / requeue")
    rows = [head]
    for policy in group.policies:
        cost = group.cost(policy)
        rows.append(
            (
                policy,
                milliseconds(cost.blackout_p50_ms),
                milliseconds(cost.blackout_p99_ms),
                ratio(cost.latency_overhead),
                ratio(cost.throughput_overhead),
            )
        )
    return table(rows)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
