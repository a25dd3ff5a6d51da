"""How numbers and lists are said in a comparison: shares with their bounds, never a bare "safe"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from jepsen_blk.campaign.summary import CellSummary, Judgement, Share

SYMBOLS: dict[Judgement, str] = {"unsafe": "✗", "safe": "✓", "undecided": "~", "unknown": "?"}
MEANINGS: dict[Judgement, str] = {
    "unsafe": "a run failed, since what was acknowledged was not there",
    "safe": "none failed, of as many runs as were asked for",
    "undecided": "none failed so far; too few runs, or some without a verdict",
    "unknown": "no run could be judged",
}
CONFIDENCE = "95 % confidence"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does: a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float, *, up: bool = False) -> str:
    """Write a share as a percentage of two digits; `up` rounds up, as a bound has to be."""
    value = share * 100
    if value <= 0:
        return "0 %"
    if value >= 100:
        return "100 %"
    places = max(0, 1 - math.floor(math.log10(value)))
    scale = 10**places
    rounded = math.ceil(value * scale - 1e-9) / scale if up else round(value, places)
    return f"{rounded:g} %"


def interval(share: Share) -> str:
    """Write the confidence interval of a share."""
    return f"{percent(share.low)} to {percent(share.high, up=True)}"


def counted(share: Share) -> str:
    """Write how many of how many, and what that says: the bound above nothing seen, else the interval."""
    count = f"{share.count:,} of {share.of:,}"
    if not share.of:
        return count
    if not share.count:
        return f"{count}, at most {percent(share.high, up=True)}"
    return f"{count}, {interval(share)}"


def summed_up(summary: CellSummary) -> str:
    """Say in a line what a cell is judged to be and on what that stands."""
    said = f"{summary.judgement}: {counted(summary.failed)} of the judged runs failed"
    return f"{said}; {summary.unknown:,} unknown" if summary.unknown else said


def judged(summary: CellSummary) -> str:
    """Say in full how many of a cell's runs failed, and how probable a failure is."""
    failed = summary.failed
    if not failed.of:
        return f"none of {summary.runs:,} runs could be judged"
    chance = interval(failed) if failed.count else f"at most {percent(failed.high, up=True)}"
    count = f"{failed.count:,} of {failed.of:,} judged runs failed"
    return f"{count}; a run fails with a probability of {chance} ({CONFIDENCE})"


def blackout(p50_ms: float | None, p99_ms: float | None) -> str:
    """Write a median and a 99th percentile, once if they are the same."""
    low, high = milliseconds(p50_ms), milliseconds(p99_ms)
    return low if low == high else f"{low} to {high}"


def moment(text: str) -> str:
    """Write a time of ISO 8601 for people; anything else as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text


def milliseconds(value: float | None) -> str:
    """Write a duration; a dash where there is none."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms"


def ratio(value: float | None) -> str:
    """Write a ratio to the baseline; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"
