"""Writes one run's report as a single HTML file that opens anywhere: no network, no second file.

The page leads with the verdict and the story; numbers follow. All text is escaped by the template
engine; chart data goes in as JSON in which no character can end a script element.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from jepsen_blk.checker.graph import history_graph
from jepsen_blk.checker.kinds import KINDS
from jepsen_blk.report.again import how_to_repeat
from jepsen_blk.report.history_graph import draw_graph
from jepsen_blk.report.model import Anomaly, RunData, show_value
from jepsen_blk.report.picture import render_picture, templates
from jepsen_blk.report.run_data import load_run
from jepsen_blk.report.series import Points, Series
from jepsen_blk.report.story import Story, tell
from jepsen_blk.report.story_picture import draw_story, show_ms
from jepsen_blk.report.timeline import draw_timeline

_ROOM = Path(__file__).parent / "templates"
_DEADLINES = {
    "never": "an indeterminate write may take effect at any time (Jepsen's rule)",
    "fence": "until its node was fenced or destroyed",
    "error": "until the error reached the guest",
}
_HEADLINES = {
    "pass": "Every acknowledged write was there when it was read.",
    "fail": "The storage broke its word.",
    "unknown": "This run proves nothing, and says why.",
}


def render_report(run_dir: Path, library: Path | None = None) -> Path:
    """Write `run_dir/report.html` and return its path.

    The chart library, some 4 MB, is in the page; where many pages lie together it may be a file of theirs,
    `library`, which is written if it is not there.

    Raises UserError when the run holds no results, HistoryError when its journal is damaged.
    """
    run = load_run(run_dir)
    anomaly = run.anomalies[0] if run.anomalies else None
    story = tell(run, anomaly) if anomaly else None
    page = (
        templates()
        .get_template("report.html.j2")
        .render(
            run=run,
            again=how_to_repeat(run.results, Path(*run_dir.parts[-3:])),
            headline=_headline(run, anomaly),
            story=story,
            picture=_picture(run, story),
            graph=_graph(run, anomaly),
            charts=_safe_json(_charts(run)),
            deadlines=[
                (name, text, run.results.get("deadlines", {}).get(name)) for name, text in _DEADLINES.items()
            ],
            show_ms=show_ms,
            show_value=show_value,
            style=_inline("report.css"),
            script=_inline("report.js"),
            plotly=Markup(get_plotlyjs()) if library is None else None,  # noqa: S704 - the library's own script
            plotly_file=None if library is None else _shared(library, run_dir),
        )
    )
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _shared(library: Path, run_dir: Path) -> str:
    """Return the library's address as seen from the run; write it if it is not there."""
    if not library.exists():
        library.write_text(get_plotlyjs(), encoding="utf-8")
    return quote(os.path.relpath(library, run_dir))


def _headline(run: RunData, anomaly: Anomaly | None) -> str:
    if anomaly is not None and anomaly.kind in KINDS:
        return f"Block {anomaly.block}: {KINDS[anomaly.kind].title}."
    return _HEADLINES.get(run.verdict, "")


def _picture(run: RunData, story: Story | None) -> Markup:
    if story is None:
        return render_picture(draw_timeline(run))
    return render_picture(draw_story(story, " ".join(f"{step.number}. {step.text}" for step in story.steps)))


def _graph(run: RunData, anomaly: Anomaly | None) -> Markup | None:
    """Draw the failing block's graph."""
    if anomaly is None or anomaly.block < 0:
        return None
    graph = history_graph(run.history, anomaly.raw)
    boot = anomaly.ops[0].boot if anomaly.ops else 0
    picture = draw_graph(
        graph, anomaly.block, lambda time: float(run.to_ms(np.array([time], dtype=np.int64), boot)[0])
    )
    return render_picture(picture) if picture else None


def _charts(run: RunData) -> dict[str, Any]:
    series: Series = run.series
    return {
        "points": [_points(points) for points in series.points if len(points.time_ms)],
        "end": round(run.end_ms / 1e3, 3),
        "rate": {"x": _rounded(series.rate_time_ms / 1e3), "y": _rounded(series.rate_per_s)},
        "bands": [
            *(
                {
                    "name": b.name,
                    "kind": "fault",
                    "depth": b.depth,
                    "x0": b.begin_ms / 1e3,
                    "x1": b.end_ms / 1e3,
                }
                for b in run.bands
            ),
            *(
                {
                    "name": f"{move.source} → {move.destination}",
                    "kind": "move",
                    "depth": 0,
                    "x0": move.begin_ms / 1e3,
                    "x1": move.resumed_ms / 1e3,
                }
                for move in run.moves
            ),
        ]
        if run.aligned
        else [],
        "seen": round(run.seen.time_ms / 1e3, 4) if run.seen and run.aligned else None,
    }


def _points(points: Points) -> dict[str, Any]:
    return {"name": points.name, "x": _rounded(points.time_ms / 1e3), "y": _rounded(points.latency_ms)}


def _rounded(values: Any) -> list[float]:
    rounded: list[float] = np.round(values, 4).tolist()
    return rounded


def _safe_json(data: Any) -> Markup:
    """JSON for a script element: no `<`, `>` or `&`, so nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _inline(name: str) -> Markup:
    return Markup((_ROOM / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file
