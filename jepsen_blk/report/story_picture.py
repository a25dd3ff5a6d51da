"""Draws a story: one lane per guest node, the path, the storage's copies, and what the block holds.

Events of a corruption lie microseconds and seconds apart, so the axis is ordered by event: each gap
gets room by the logarithm of its length, long ones show a break, and every mark is labelled with
its true time. Bars have width, never a scale to be measured with.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

from jepsen_blk.report.model import Copy, Op, show_value
from jepsen_blk.report.picture import Badge, Curve, Label, Line, Picture, Rect, text_width
from jepsen_blk.report.story import Story
from jepsen_blk.report.story_steps import Step

_WIDTH = 1180.0
_GUTTER = 150.0
_RIGHT = 26.0
_GUEST_LANE = 62.0
_PATH_LANE = 40.0
_COPY_ROW = 36.0
_STRIP = 40.0
_BAR = 22.0
_BREAK_RATIO = 12.0


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps ms to x: piecewise linear between the key times."""

    times: tuple[float, ...]
    xs: tuple[float, ...]
    breaks: tuple[int, ...]

    def x(self, time_ms: float) -> float:
        """Return the x of a time; times outside stick to the ends."""
        times, xs = self.times, self.xs
        if time_ms <= times[0]:
            return xs[0]
        if time_ms >= times[-1]:
            return xs[-1]
        i = bisect.bisect_right(times, time_ms) - 1
        return xs[i] + (xs[i + 1] - xs[i]) * (time_ms - times[i]) / (times[i + 1] - times[i])


def make_axis(times: list[float], left: float, right: float) -> Axis:
    """Space the key times by the logarithm of their gaps; mark the gaps that are cut short as broken."""
    keys = sorted(set(times))
    if len(keys) == 1:
        keys.append(keys[0] + 1.0)
    gaps = [b - a for a, b in itertools.pairwise(keys)]
    weights = [1.0 + math.log1p(gap / 0.3) / 2.2 for gap in gaps]
    scale = (right - left) / sum(weights)
    xs = [left]
    for weight in weights:
        xs.append(xs[-1] + weight * scale)
    density = [gap / weight for gap, weight in zip(gaps, weights, strict=True)]
    typical = sorted(density)[len(density) // 2]
    breaks = tuple(i for i, value in enumerate(density) if value > _BREAK_RATIO * typical or gaps[i] > 100)
    return Axis(tuple(keys), tuple(xs), breaks)


def show_ms(time_ms: float) -> str:
    """Write a duration in the unit that suits it."""
    if abs(time_ms) >= 10_000:
        return f"{time_ms / 1000:.1f} s"
    if abs(time_ms) >= 1000:
        return f"{time_ms / 1000:.2f} s"
    return f"{time_ms:.0f} ms" if abs(time_ms) >= 100 else f"{time_ms:.1f} ms"


def draw_story(story: Story, description: str) -> Picture:
    """Draw the story on a canvas of fixed width and as many lanes as it needs."""
    return _Drawing(story, description).draw()


class _Drawing:
    """One drawing in progress: the axis, and the vertical place of each lane."""

    def __init__(self, story: Story, description: str) -> None:
        self.story = story
        self.axis = make_axis(_key_times(story), _GUTTER + 14, _WIDTH - 84)
        self.tops: dict[str, float] = {}
        y = 40.0 if story.moves else 26.0 if story.fence else 8.0
        for node in story.nodes:
            self.tops[node] = y
            y += _GUEST_LANE
        if story.bands:
            self.tops["path"] = y
            y += _PATH_LANE
        self.tops["storage"] = y
        y += max(1, len(story.copies)) * _COPY_ROW + (42 if story.late else 12)
        if story.contents:
            self.tops["contents"] = y
            y += _STRIP + 8
        self.tops["axis"] = y
        title = f"How block {story.block} came to hold {show_value(story.old)}"
        self.picture = Picture("story", _WIDTH, y + 44, title, description)

    def draw(self) -> Picture:
        """Draw back to front."""
        self._lanes()
        self._moves()
        self._fence()
        self._path()
        self._contents()
        self._copies()
        for op in self.story.ops:
            self._op(op)
        self._axis()
        self._badges()
        return self.picture

    def _storage_end(self) -> float:
        return self.tops.get("contents", self.tops["axis"])

    def _x(self, time_ms: float) -> float:
        return self.axis.x(time_ms)

    def _lanes(self) -> None:
        add, story = self.picture.add, self.story
        for i, node in enumerate(story.nodes):
            top = self.tops[node]
            add(Rect(0, top, _WIDTH, _GUEST_LANE - 4, "lane" if i % 2 == 0 else "lane other"))
            add(Label(12, top + 26, f"Guest on {node.upper()}" if node else "Guest", "lane-name"))
        if story.bands:
            top = self.tops["path"]
            node = story.bands[0].node.upper()
            add(Rect(0, top, _WIDTH, _PATH_LANE - 4, "lane"))
            add(Label(12, top + 23, f"Path {node} to storage" if node else "Path to storage", "lane-name"))
        top, below = self.tops["storage"], self._storage_end()
        add(Rect(0, top, _WIDTH, below - top - 4, "lane other"))
        add(Label(12, top + 26, "Storage", "lane-name"))
        if not story.has_log:
            add(Label(_GUTTER + 14, top + 26, "this storage keeps no log: what it did is not known", "note"))
        if story.contents:
            add(Rect(0, below, _WIDTH, _STRIP, "lane"))
            add(Label(12, below + 25, f"Block {story.block} holds", "lane-name"))

    def _moves(self) -> None:
        top = self.tops[self.story.nodes[0]]
        height = _GUEST_LANE * len(self.story.nodes) - 4
        for move in self.story.moves:
            begin, stopped, resumed = (
                self._x(move.begin_ms),
                self._x(move.stopped_ms),
                self._x(move.resumed_ms),
            )
            left = begin
            hint = f"live migration {move.source} to {move.destination}"
            text = f"live migration {move.source.upper()} → {move.destination.upper()}"
            self.picture.add(
                Rect(left, top, max(2.0, resumed - left), height, "move", hint),
                Label(left + 14, top - 9, text, "move-name"),
            )
            self._handover(move.source, move.destination, stopped, resumed)

    def _handover(self, source: str, destination: str, left: float, right: float) -> None:
        if source not in self.tops or destination not in self.tops:
            return
        y1, y2 = self.tops[source] + _GUEST_LANE - 14, self.tops[destination] + _GUEST_LANE - 14
        self.picture.add(Line(left, y1, max(right, left + 20), y2, "hop arrow plain"))

    def _fence(self) -> None:
        if self.story.fence is not None:
            x, top = self._x(self.story.fence.time_ms), self.tops[self.story.nodes[0]]
            self.picture.add(Line(x, top, x, self.tops["axis"], "stop"))
            self.picture.add(Label(x, top - 9, "fence", "move-name", "middle"))

    def _path(self) -> None:
        for band in self.story.bands:
            top = self.tops["path"]
            left, right = self._x(band.begin_ms), self._x(min(band.end_ms, self.story.end_ms))
            self.picture.add(Rect(left, top + 3, max(4.0, right - left), _PATH_LANE - 10, "cut", band.name))
            text = "cut"
            self.picture.add(Label((left + right) / 2, top + 23, text, "cut-name", "middle"))

    def _contents(self) -> None:
        top = self._storage_end() + 5
        for content in self.story.contents:
            left, right = self._x(content.begin_ms), self._x(content.end_ms)
            value = show_value(content.value)
            look = f"content {self.story.look(content.value)}"
            self.picture.add(Rect(left, top, max(2.0, right - left), _STRIP - 10, look, f"holds {value}"))
            if right - left > text_width(value) + 6:
                self.picture.add(Label((left + right) / 2, top + 20, value, look + " text", "middle"))

    def _copies(self) -> None:
        for row, copy in enumerate(self.story.copies):
            self._copy(copy, self.tops["storage"] + 8 + row * _COPY_ROW)
        if self.story.late is not None:
            self._damage(self.story.late)

    def _damage(self, late: Copy) -> None:
        """Name the damage beside its arrow, on the side where there is room."""
        right, y = self._x(late.end_ms), self._storage_end() - 21.5
        newer, over = show_value(self.story.new or 0), self.story.overwritten
        what = {True: f"overwrites {newer}", False: f"lands; {newer} was never applied", None: "lands"}
        text = f"the late copy {what[over]}"
        if right + 16 + text_width(text, 14) < _WIDTH:
            self.picture.add(Label(right + 16, y, text, "label wrong"))
            return
        width = text_width(text) + 8
        self.picture.add(Rect(right - 16 - width, y - 13.5, width + 4, 19, "plate"))
        self.picture.add(Label(right - 16, y, text, "label wrong", "end"))

    def _copy(self, copy: Copy, y: float) -> None:
        add, look = self.picture.add, self.story.look(copy.value)
        left, right = self._x(copy.received_ms), self._x(copy.end_ms)
        right = max(right, left + 8)
        add(Rect(left, y, right - left, _BAR, f"copy {look}", f"{show_value(copy.value)} from {copy.node}"))
        if copy.held_ms is not None:
            until = self._x(copy.released_ms) if copy.released_ms is not None else right
            add(Rect(left, y, max(2.0, until - left), _BAR, "held"))
        if copy.node in self.tops:
            add(Line(left, self.tops[copy.node] + 46, left, y, f"send arrow {look}"))
        text = _copy_text(copy)
        if copy.held_ms is not None and right - left > text_width(text) + 30:
            middle, width = (left + right) / 2, text_width(text) + 16
            add(Rect(middle - width / 2, y + 2, width, _BAR - 4, "plate"))
            add(Label(middle, y + 15.5, text, "label strong", "middle"))
        elif right + text_width(text) + 14 < _WIDTH - _RIGHT:
            add(Label(right + 8, y + 15.5, text, "label"))
        else:
            add(Label(left - 14, y + 15.5, text, "label", "end"))
        end = self._storage_end() + 4
        if copy.applied_ms is not None:
            late = copy is self.story.late
            add(Line(right, y + _BAR, right, end, f"land arrow {'bad' if late else look}"))
        elif copy.action == "ignore":
            add(Curve(f"M{right - 5:.1f} {y + 6:.1f}l10 10m0 -10l-10 10", "cross"))

    def _op(self, op: Op) -> None:
        nodes = [node for node in op.node.split(" → ") if node in self.tops] or [self.story.nodes[0]]
        bad = op is self.story.bad_read
        look = f"op {op.f} {self.story.look(op.value)}" + (" wrong" if bad else "")
        end_ms = op.finish_ms if op.finish_ms is not None else self.story.end_ms
        start, end = self._x(op.start_ms), self._x(end_ms)
        hint = f"process {op.process}: {op.f} {op.shown}, {op.outcome}"
        mark = {"ok": "✓", "fail": "✗", "info": "?"}[op.outcome] if op.f == "write" else "✗" if bad else "✓"
        verb = "reads" if op.f == "read" else "writes"
        text = f"{verb} {op.shown} {mark}"
        for i, node in enumerate(nodes):
            left, right = start, end
            if len(nodes) > 1 and self.story.moves:
                move = self.story.moves[0]
                left = start if i == 0 else self._x(move.resumed_ms)
                right = self._x(move.stopped_ms) if i == 0 else end
            y = self.tops[node] + 28
            self.picture.add(Rect(left, y, max(8.0, right - left), 18, look, hint))
            first = i == 0 and len(nodes) > 1
            self.picture.add(
                Label(
                    left + 13,
                    self.tops[node] + 21,
                    f"{verb} {op.shown} …" if first else text,
                    "label" + (" wrong" if bad else ""),
                )
            )

    def _axis(self) -> None:
        y, add = self.tops["axis"] + 8, self.picture.add
        zero = self.axis.times[0]
        add(Line(self.axis.xs[0], y, self.axis.xs[-1], y, "axis"))
        last = -1e9
        for time, x in zip(self.axis.times, self.axis.xs, strict=True):
            text = f"{time - zero:,.1f}"
            add(Line(x, y - 4, x, y + 4, "axis"))
            half = text_width(text, 11) / 2
            if x - half > last + 8:
                add(Label(x, y + 19, text, "tick", "middle"))
                last = x + half
        for i in self.axis.breaks:
            x = (self.axis.xs[i] + self.axis.xs[i + 1]) / 2
            add(Rect(x - 4, y - 4, 8, 8, "gap"))
            add(Curve(f"M{x - 5:.1f} {y + 5:.1f}l4 -10m2 10l4 -10", "axis"))
        add(Label(12, y + 4, "ms, not to scale", "note"))

    def _badges(self) -> None:
        used: list[tuple[float, float]] = []
        for step in self.story.steps:
            x, y = self._badge_x(step), self._badge_y(step.lane, step.time_ms)
            while any(abs(x - px) < 21 and abs(y - py) < 16 for px, py in used):
                x += 21
            used.append((x, y))
            self.picture.add(Badge(x, y, step.number, "badge bad" if step.bad else "badge"))

    def _badge_x(self, step: Step) -> float:
        story = self.story
        if step.lane == "guest":
            move = next((m for m in story.moves if m.begin_ms == step.time_ms), None)
            if move is not None:
                return self._x(move.begin_ms)
            op = next((o for o in story.ops if step.time_ms in (o.start_ms, o.finish_ms)), None)
            if op is not None:
                return self._x(op.start_ms)
        return self._x(step.time_ms) - (13 if step.lane == "storage" else 0)

    def _badge_y(self, lane: str, time_ms: float) -> float:
        story = self.story
        if lane == "path" and "path" in self.tops:
            return self.tops["path"] + 18
        if lane == "contents":
            return self._storage_end() - 26
        if lane == "storage":
            row = next((i for i, copy in enumerate(story.copies) if copy.received_ms == time_ms), 0)
            return self.tops["storage"] + 19 + row * _COPY_ROW
        if any(move.begin_ms == time_ms for move in story.moves):
            return self.tops[story.nodes[0]] - 13
        op = next((o for o in story.ops if time_ms in (o.start_ms, o.finish_ms)), None)
        node = op.node.split(" → ")[-1] if op else ""
        return self.tops.get(node, self.tops[story.nodes[0]]) + 37


def _copy_text(copy: Copy) -> str:
    value = show_value(copy.value)
    if copy.held_ms is not None:
        where = "held in the network" if copy.action == "park" else "in flight, held"
        return f"{value} from {copy.node.upper()}: {where}"
    if copy.action == "ignore":
        return f"{value} from {copy.node.upper()} ignored"
    if copy.applied_ms is not None:
        return f"{value} from {copy.node.upper()}"
    return f"{value} from {copy.node.upper()}: {copy.outcome or copy.action}"


def _key_times(story: Story) -> list[float]:
    """The times that get room of their own: what the guest saw, switch-overs, releases and landings."""
    times = [story.begin_ms, story.end_ms]
    for op in story.ops:
        times.append(op.start_ms)
        if op.finish_ms is not None:
            times.append(op.finish_ms)
    for move in story.moves:
        times += [move.begin_ms, move.resumed_ms]
    times += [copy.end_ms for copy in story.copies]
    for copy in story.copies:
        if copy.held_ms is not None:
            times += [time for time in (copy.released_ms, copy.applied_ms) if time is not None]
    for band in story.bands:
        times += [band.begin_ms, band.end_ms]
    times += [step.time_ms for step in story.steps if step.lane == "path"]
    times += [story.fence.time_ms] if story.fence else []
    kept: list[float] = []
    for time in sorted(time for time in times if story.begin_ms <= time <= story.end_ms):
        if not kept or time - kept[-1] > 0.05:
            kept.append(time)
    return kept
