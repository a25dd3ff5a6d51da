"""`jepsen-blk explain` in the terminal: a kind of anomaly defined, told in plain words, and drawn in text."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jepsen_blk.checker.kinds import KINDS, NAMES, SYMBOLS, Kind, kind_named
from jepsen_blk.checker.verdict import check
from jepsen_blk.report.scene import Bar, Scene, scene_of
from jepsen_blk.report.story_picture import Axis, make_axis

_MOST_COLUMNS = 100
_INDENT = "  "
_STYLES = {"old": "yellow", "new": "cyan", "plain": ""}
_AXIS_COLUMNS = 34


def print_kinds(console: Console) -> None:
    """Print all kinds in a table."""
    table = Table(header_style="bold", expand=False, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("what the guest saw")
    table.add_column("witness")
    for kind in KINDS.values():
        table.add_row(Text(kind.name, style="bold red"), Text(kind.title), Text(kind.witness))
    console.print(table)
    console.print(Text("jepsen-blk explain KIND has the definition, the causes and an example of each"))


def print_kind(name: str, console: Console) -> None:
    """Print one kind; raises UserError when there is none of that name."""
    kind = kind_named(name)
    width = min(console.width, _MOST_COLUMNS)
    console.print(Text.assemble((kind.name, "bold red"), f"  {kind.title}"), soft_wrap=True)
    _section(console, "exactly", kind.definition, width)
    _section(console, "in words", kind.meaning, width)
    for cause in kind.causes:
        _section(console, "likely cause", cause, width)
    _section(console, "later evidence", kind.evidence, width)
    _section(console, "witness", kind.witness, width)
    console.print(Text("\nexample", style="bold"))
    for line in draw_text(example_scene(kind)):
        console.print(Text(_INDENT).append_text(line), soft_wrap=True)
    console.print(Text("\nwhere", style="bold"))
    for symbol, meaning in SYMBOLS:
        _section(console, symbol, meaning, width, style="dim")


def example_scene(kind: Kind) -> Scene:
    """Return the whole example of a kind, with the orders in it that the checker finds at odds."""
    history = kind.history()
    anomaly = check(history, kind.deadline).anomalies[0].to_json()
    return scene_of(history, anomaly, NAMES, whole=True)


def draw_text(scene: Scene) -> list[Text]:
    """Draw the scene as lines of text: an operation a line on one axis of time, then the orders."""
    times = [bar.begin_ms for bar in scene.bars] + [
        bar.end_ms for bar in scene.bars if bar.end_ms is not None
    ]
    axis = make_axis([*times, *(time for time, _ in scene.marks)], 0, _AXIS_COLUMNS)
    who = [bar.who for bar in scene.bars]
    wide = max(map(len, who)), max(len(bar.text) for bar in scene.bars)
    lines = []
    for bar, process in zip(scene.bars, who, strict=True):
        answer = (
            f"{bar.answer}{'' if bar.block == scene.block or bar.f == 'flush' else f' (block {bar.block})'}"
        )
        line = Text.assemble(
            (f"{process:{wide[0]}}  ", "dim"), f"{bar.text:{wide[1]}}  ", _bar(bar, scene, axis)
        )
        line.append(
            f"  {answer}{'  ← R' if bar.bad else ''}", style="bold red" if bar.bad else _STYLES[bar.tone]
        )
        lines.append(line)
    for time, name in scene.marks:
        pad = " " * (sum(wide) + 4 + _column(axis, time))
        lines.append(Text(f"{pad}╵ {name} at {time:g} ms", style="magenta"))
    return lines + [Text(order.text, style="red") for order in scene.orders]


def _bar(bar: Bar, scene: Scene, axis: Axis) -> Text:
    """Draw the operation's columns, and the fences and power losses that cross its line."""
    cells = [" "] * (_AXIS_COLUMNS + 1)
    for time, _ in scene.marks:
        cells[_column(axis, time)] = "╎"
    left = _column(axis, bar.begin_ms)
    right = _AXIS_COLUMNS if bar.end_ms is None else max(_column(axis, bar.end_ms), left + 1)
    certain = bar.outcome != "info"
    cells[left : right + 1] = ["├", *("─" if certain else "┄") * (right - left - 1), "┤" if certain else "?"]
    return Text("".join(cells), style="bold red" if bar.bad else _STYLES[bar.tone])


def _column(axis: Axis, time_ms: float) -> int:
    return round(axis.x(time_ms))


def _section(console: Console, head: str, text: str, width: int, style: str = "bold") -> None:
    gutter = 16
    body = textwrap.wrap(text, max(width - gutter, 20))
    for number, line in enumerate(body):
        console.print(Text.assemble((f"{head if number == 0 else '':{gutter}}", style), line), soft_wrap=True)
