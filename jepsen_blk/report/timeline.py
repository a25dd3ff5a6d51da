"""The picture of a run without an anomaly: where the guest was, what went wrong, what was in flight.

A pass is worth something only if writes were in flight while the guest moved, so the busiest
switch-over is drawn in full below the run.
"""

from __future__ import annotations

import math

from jepsen_blk.report.model import Move, RunData, show_value
from jepsen_blk.report.picture import Badge, Label, Line, Picture, Rect, text_width
from jepsen_blk.report.story_picture import show_ms

_WIDTH = 1180.0
_GUTTER = 150.0
_RIGHT = 24.0
_LANE = 44.0
_ROW = 30.0
_MAX_BARS = 14
_MAX_MOVES = 60


def draw_timeline(run: RunData) -> Picture:
    """Draw the whole run on a linear axis, and the busiest switch-over enlarged."""
    busiest = max(run.moves, key=lambda move: len(move.crossing), default=None)
    bars = busiest.crossing[:_MAX_BARS] if busiest else ()
    height = 30 + _LANE + _faults_height(run) + 40 + (70 + 24 * len(bars) if bars else 0)
    description = (
        f"{len(run.moves)} migrations; {sum(move.in_flight for move in run.moves)} writes were in flight "
        "at their switch-overs."
    )
    picture = Picture("timeline", _WIDTH, height, f"Timeline of {run.name}", description)
    _run_lanes(picture, run)
    if busiest is not None and bars:
        _switch_over(picture, busiest, run.moves.index(busiest) + 1, 30 + _LANE + _faults_height(run) + 62)
    return picture


def _faults_height(run: RunData) -> float:
    """Room for every fault beneath those that it came during."""
    return _LANE + _ROW * max((band.depth for band in run.bands), default=0)


def _run_lanes(picture: Picture, run: RunData) -> None:
    end = max(run.end_ms, 1.0)

    def x(time_ms: float) -> float:
        part = min(max(time_ms / end, 0.0), 1.0)
        return _GUTTER + (_WIDTH - _RIGHT - _GUTTER) * part

    top, faults = 30.0, 30.0 + _LANE
    picture.add(
        Rect(0, top, _WIDTH, _LANE - 4, "lane"),
        Rect(0, faults, _WIDTH, _faults_height(run) - 4, "lane other"),
    )
    picture.add(
        Label(12, top + 25, "Guest runs on", "lane-name"), Label(12, faults + 25, "Faults", "lane-name")
    )
    moves = run.moves[:_MAX_MOVES]
    begins = [0.0, *(move.resumed_ms for move in moves)]
    ends = [*(move.stopped_ms for move in moves), end]
    nodes = [run.first_node, *(move.destination for move in moves)]
    order = list(dict.fromkeys(nodes))
    for node, begin, stop in zip(nodes, begins, ends, strict=True):
        left, right = x(begin), x(stop)
        look = "home even" if order.index(node) % 2 == 0 else "home odd"
        picture.add(Rect(left, top + 6, max(1.0, right - left), _LANE - 16, look, f"guest on {node}"))
        if right - left > 24:
            picture.add(Label(left + 10, top + 25, node.upper(), "label strong"))
    for band in run.bands:
        left, right = x(band.begin_ms), x(band.end_ms)
        y = faults + 6 + _ROW * band.depth
        picture.add(Rect(left, y, max(3.0, right - left), _LANE - 16, "fault", band.name))
        if right - left > text_width(band.name):
            picture.add(Label((left + right) / 2, y + 19, band.name, "label", "middle"))
    for number, move in enumerate(moves, start=1):
        left, right = x(move.begin_ms), x(move.resumed_ms)
        height = _LANE + _faults_height(run) - 4
        picture.add(Rect(left, top, max(3.0, right - left), height, "move", f"migration {number}"))
        picture.add(Badge(x(move.stopped_ms), top - 12, number, "badge moved"))
    y = faults + _faults_height(run) + 6
    picture.add(Line(_GUTTER, y, _WIDTH - _RIGHT, y, "axis"))
    step = _round_step(end)
    for i in range(int(end / step) + 1):
        time = step * i
        picture.add(Line(x(time), y - 4, x(time), y + 4, "axis"))
        picture.add(Label(x(time), y + 18, f"{time / 1000:g} s", "tick", "middle"))


def _round_step(end_ms: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that gives at most ten ticks."""
    power = 10.0 ** math.floor(math.log10(end_ms / 10))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 10 >= end_ms)


def _switch_over(picture: Picture, move: Move, number: int, top: float) -> None:
    bars = move.crossing[:_MAX_BARS]
    low = min(bar.received_ms for bar in bars)
    high = max(max(bar.end_ms for bar in bars), move.stopped_ms + 0.1)
    scale = (_WIDTH - _RIGHT - 110 - _GUTTER) / max(high - low, 0.1)

    def x(time_ms: float) -> float:
        return _GUTTER + (time_ms - low) * scale

    writes = f"{len(move.crossing)} writes of {move.source.upper()}"
    rest = f" (the first {len(bars)} are drawn)" if len(bars) < len(move.crossing) else ""
    text = f"Switch-over {number}: {writes} in flight when the guest stopped{rest}"
    picture.add(Label(12, top, text, "lane-name"))
    y = top + 18
    for bar in bars:
        left, right = x(bar.received_ms), x(bar.end_ms)
        name = f"{show_value(bar.value)} → block {bar.block}"
        picture.add(Rect(left, y, max(3.0, right - left), 16, "op write plain", name))
        picture.add(
            Label(right + 8, y + 12.5, name, "tick"),
            Label(_GUTTER - 12, y + 12.5, f"from {bar.node.upper()}", "tick", "end"),
        )
        y += 24
    stop = x(move.stopped_ms)
    picture.add(Line(stop, top + 10, stop, y, "stop"))
    picture.add(Label(stop + 6, y + 12, "guest stopped", "note"))
    picture.add(Label(_GUTTER, y + 12, show_ms(low - move.stopped_ms), "tick"))
    picture.add(Label(x(high), y + 12, f"+{show_ms(high - move.stopped_ms)}", "tick", "end"))
