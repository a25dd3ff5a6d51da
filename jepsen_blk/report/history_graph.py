"""Draws the history graph of the failing block: operations by time and process, edges by their kind.

The graph itself is the checker's; a block may have had many operations, so only the witness and its
nearest neighbours in time are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx

from jepsen_blk.history.record import PENDING
from jepsen_blk.report.model import show_value
from jepsen_blk.report.picture import Label, Line, Picture, Rect, text_width
from jepsen_blk.report.story_picture import make_axis, show_ms

_WIDTH = 1180.0
_GUTTER = 110.0
_ROW = 54.0
_BOX = 26.0
_ATTACH = {"conflict": 0.75, "reads-from": 0.25}
"""Where an edge meets its boxes, so that two edges between the same boxes stay apart."""
_MAX_NODES = 12
_MAX_EDGES = 60

ToMs = Callable[[int], float]
"""Maps the graph's guest times in ns to ms of the run."""


def draw_graph(graph: nx.DiGraph, block: int, to_ms: ToMs) -> Picture | None:
    """Draw the graph; None when it has no node."""
    nodes = _nearest(graph)
    if not nodes:
        return None
    data: dict[Any, dict[str, Any]] = {node: graph.nodes[node] for node in nodes}
    spans = {node: _span(attributes, to_ms) for node, attributes in data.items()}
    lanes = sorted({_lane(attributes) for attributes in data.values()})
    axis = make_axis([t for span in spans.values() for t in span], _GUTTER + 20, _WIDTH - 80)
    height = 34 + _ROW * len(lanes)
    picture = Picture(
        "graph",
        _WIDTH,
        height,
        f"History graph of block {block}",
        "Each box is an operation, placed by time and process; arrows are the orders between them.",
    )
    rows = {lane: 26 + _ROW * i for i, lane in enumerate(lanes)}
    boxes: dict[Any, tuple[float, float, float]] = {}
    for (process, _), top in rows.items():
        name = f"process {process}" if process >= 0 else "unreported"
        picture.add(Rect(0, top - 8, _WIDTH, _ROW - 6, "lane"), Label(12, top + 18, name, "note"))
    for node, attributes in data.items():
        text = f"{attributes['f'][0].upper()} {show_value(int(attributes['value']))}"
        left, right = axis.x(spans[node][0]), axis.x(spans[node][1])
        width = max(right - left, text_width(text) + 14)
        boxes[node] = (left, rows[_lane(attributes)] + 2, width)
    shown = [(a, b, d) for a, b, d in graph.edges(data=True) if a in boxes and b in boxes]
    shown.sort(key=lambda edge: edge[2].get("kind") == "conflict")
    for source, target, edge in shown[-_MAX_EDGES:]:
        picture.add(_edge(boxes[source], boxes[target], str(edge.get("kind", ""))))
    for node, (x, y, width) in boxes.items():
        _box(picture, data[node], x, y, width, spans[node])
    return picture


def _lane(attributes: dict[str, Any]) -> tuple[int, int]:
    """Give each process a lane, and each unreported write: when they were issued is not known."""
    process = int(attributes["process"])
    return process, 0 if process >= 0 else int(attributes["value"])


def _box(
    picture: Picture, attributes: dict[str, Any], x: float, y: float, width: float, span: tuple[float, float]
) -> None:
    value = int(attributes["value"])
    look = "node witness" if attributes.get("in_witness") else "node"
    hint = f"{attributes.get('label', '')} {show_ms(span[0])} to {show_ms(span[1])}"
    text = f"{attributes['f'][0].upper()} {show_value(value)}"
    picture.add(Rect(x, y, width, _BOX, f"{look} {attributes['f']}", hint))
    picture.add(Label(x + width / 2, y + 17, text, "label strong", "middle"))


def _edge(a: tuple[float, float, float], b: tuple[float, float, float], kind: str) -> Line:
    look = f"edge {kind} arrow {'bad' if kind == 'conflict' else 'plain'}"
    if a[1] == b[1]:
        y = a[1] + _BOX / 2
        return Line(a[0] + a[2], y, b[0] - 1, y, look, kind)
    down = b[1] > a[1]
    y1, y2 = (a[1] + _BOX, b[1] - 1) if down else (a[1], b[1] + _BOX + 1)
    part = _ATTACH.get(kind, 0.5)
    return Line(a[0] + a[2] * part, y1, b[0] + b[2] * part, y2, look, kind)


def _nearest(graph: nx.DiGraph) -> list[Any]:
    witness = [node for node, data in graph.nodes(data=True) if data.get("in_witness")]
    others = [node for node in graph.nodes if node not in set(witness)]
    values = {graph.nodes[node]["value"] for node in witness}
    starts = [int(graph.nodes[node]["start"]) for node in witness] or [0]

    def distance(node: Any) -> tuple[bool, int]:
        data = graph.nodes[node]
        return data["value"] not in values, min(abs(int(data["start"]) - start) for start in starts)

    others.sort(key=distance)
    return [*witness[:_MAX_NODES], *others[: max(0, _MAX_NODES - len(witness))]]


def _span(attributes: dict[str, Any], to_ms: ToMs) -> tuple[float, float]:
    start, finish = int(attributes["start"]), attributes.get("finish")
    begin = to_ms(start)
    if finish is None or int(finish) >= PENDING:
        return begin, begin + 1.0
    return begin, max(to_ms(int(finish)), begin + 1e-3)
