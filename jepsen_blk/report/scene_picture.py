"""Draws a scene: an operation a line on one axis of time, and in red the orders that contradict."""

from __future__ import annotations

from jepsen_blk.report.picture import Badge, Label, Line, Picture, Rect, text_width
from jepsen_blk.report.scene import Bar, Scene
from jepsen_blk.report.story_picture import Axis, make_axis, show_ms

_WIDTH = 880.0
_LEFT = 176.0
_RIGHT = 660.0
_NOTES = 676.0
_HEAD = 34.0
_LINE = 40.0
_BAR = 20.0
_TEXT = 24.0


def draw_scene(scene: Scene, heading: str, caption: str) -> Picture:
    """Draw the scene below its heading; the caption stands below where no two orders say what is wrong."""
    axis = _axis_of(scene)
    bottom = _HEAD + _LINE * len(scene.bars)
    height = bottom + 30 + _TEXT * max(len(scene.orders), 1)
    picture = Picture("scene", _WIDTH, height, heading, caption)
    picture.add(Label(0, 16, heading, "heading"))
    tops = {bar.line: _HEAD + _LINE * i for i, bar in enumerate(scene.bars)}
    for i, bar in enumerate(scene.bars):
        look = "lane other" if i % 2 else "lane"
        picture.add(Rect(0, tops[bar.line], _WIDTH, _LINE, look))
    for time, name in scene.marks:
        x = axis.x(time)
        picture.add(Line(x, _HEAD, x, bottom, "stop"), Label(x, _HEAD - 4, name, "stop", "middle"))
    for bar in scene.bars:
        _draw_bar(picture, scene, bar, axis, tops[bar.line])
    _draw_orders(picture, scene, axis, tops)
    _draw_axis(picture, axis, bottom)
    texts = [order.text for order in scene.orders]
    for number, text in enumerate(texts, start=1):
        y = bottom + 16 + _TEXT * number
        picture.add(Badge(_LEFT - 12, y, number), Label(_LEFT + 6, y + 4.5, text, "label"))
    if not texts:
        picture.add(Label(_LEFT, bottom + 20 + _TEXT, caption, "label"))
    return picture


def _axis_of(scene: Scene) -> Axis:
    times = [bar.begin_ms for bar in scene.bars] + [time for time, _ in scene.marks]
    times += [bar.end_ms for bar in scene.bars if bar.end_ms is not None]
    return make_axis(times, _LEFT, _RIGHT)


def _draw_bar(picture: Picture, scene: Scene, bar: Bar, axis: Axis, top: float) -> None:
    left = axis.x(bar.begin_ms)
    right = _RIGHT if bar.end_ms is None else axis.x(bar.end_ms)
    look = f"op {bar.f} {bar.tone}{' open' if bar.outcome == 'info' else ''}{' wrong' if bar.bad else ''}"
    ended = "never ended" if bar.end_ms is None else f"to {show_ms(bar.end_ms)}"
    hint = f"{bar.text}, block {bar.block}: {show_ms(bar.begin_ms)} {ended}, {bar.outcome}"
    elsewhere = f" (block {bar.block})" if bar.block != scene.block and bar.f != "flush" else ""
    middle = top + _LINE / 2
    picture.add(
        Label(12, middle + 4.5, bar.who, "note"),
        Label(92, middle + 4.5, bar.text, "label strong"),
        Rect(left, middle - _BAR / 2, max(right - left, 3.0), _BAR, look, hint),
        Label(_NOTES, middle + 4.5, bar.answer + elsewhere, "label wrong" if bar.bad else "label"),
    )
    if bar.bad:
        x = _NOTES + text_width(bar.answer + elsewhere, 13.5) + 10
        picture.add(Label(x, middle + 4.5, "R", "label wrong"))


def _draw_orders(picture: Picture, scene: Scene, axis: Axis, tops: dict[int, float]) -> None:
    """Draw each order from the end of what came first to the beginning of what came after it."""
    bars = {bar.line: bar for bar in scene.bars}
    for number, order in enumerate(scene.orders, start=1):
        first, then = bars[order.source], bars[order.target]
        x1, x2 = axis.x(first.end_ms if first.end_ms is not None else then.begin_ms), axis.x(then.begin_ms)
        y1, y2 = tops[first.line] + _LINE / 2, tops[then.line] + _LINE / 2
        picture.add(Line(x1 + 1, y1, x2 - 1, y2, "edge conflict arrow bad", order.text))
        picture.add(Badge((x1 + x2) / 2, (y1 + y2) / 2, number))


def _draw_axis(picture: Picture, axis: Axis, bottom: float) -> None:
    y = bottom + 6
    picture.add(Line(_LEFT, y, _RIGHT, y, "axis"), Label(12, y + 5, "time", "note"))
    last = -1e9
    for time, x in zip(axis.times, axis.xs, strict=True):
        text = f"{time:g} ms"
        half = text_width(text, 11.5) / 2
        picture.add(Line(x, y - 3, x, y + 3, "axis"))
        if x - half > last + 8:
            picture.add(Label(x, y + 17, text, "tick", "middle"))
            last = x + half
