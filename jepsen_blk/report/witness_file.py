"""An anomaly's witness as a file for others: its timeline and history graph as SVG or PNG, the graph as DOT.

A bug report to a storage or a hypervisor needs the few operations that contradict each other, and not the
page of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from jepsen_blk.checker.graph import history_graph
from jepsen_blk.errors import UserError
from jepsen_blk.history.record import History
from jepsen_blk.report.history_graph import draw_graph
from jepsen_blk.report.picture_file import png_file, svg_file
from jepsen_blk.report.scene import scene_of
from jepsen_blk.report.scene_picture import draw_scene

SUFFIXES = (".dot", ".svg", ".png")
_COLOURS = {"conflict": "red", "reads-from": "blue", "process": "gray", "real-time": "black"}


def require_drawable(path: Path) -> None:
    """Raise UserError unless the suffix of `path` is one that a witness can be written as."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a witness is written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_witness(history: History, results: Mapping[str, Any], path: Path) -> None:
    """Write the witness of the first anomaly of the results of a check, in the form that the suffix names.

    Raises UserError if there is no anomaly, the file cannot be written, or PNG cannot be drawn here.
    """
    require_drawable(path)
    if not results["anomalies"]:
        raise UserError(f"{path}: there is no anomaly, so no witness to write")
    anomaly = results["anomalies"][0]
    graph = history_graph(history, anomaly)
    if path.suffix == ".dot":
        data = dot_text(graph).encode()
    else:
        svg = _drawn(history, anomaly, graph)
        data = svg.encode() if path.suffix == ".svg" else png_file(svg)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path}: cannot write the witness: {error.strerror}") from error


def dot_text(graph: nx.DiGraph) -> str:
    """Return the history graph as DOT: red and thick what contradicts, all strings quoted."""
    lines = ["digraph history {", "  rankdir=LR;", "  node [shape=box];"]
    for node, data in graph.nodes(data=True):
        pen = ', color="red", penwidth=3' if data["in_witness"] else ""
        label = f"{data['label']}, process {data['process']}"
        lines.append(f"  {_quoted(node)} [label={_quoted(label)}{pen}];")
    for a, b, data in graph.edges(data=True):
        kind = str(data["kind"])
        thick = ", penwidth=3" if kind == "conflict" else ""
        looks = f"color={_quoted(_COLOURS.get(kind, 'black'))}, tooltip={_quoted(kind)}{thick}"
        lines.append(f"  {_quoted(a)} -> {_quoted(b)} [{looks}];")
    return "\n".join([*lines, "}", ""])


def _drawn(history: History, anomaly: Mapping[str, Any], graph: nx.DiGraph) -> str:
    title = f"{anomaly['kind']}, block {anomaly['block']}"
    origin = min((int(data["start"]) for _, data in graph.nodes(data=True)), default=0)
    pictures = [draw_scene(scene_of(history, anomaly), title, str(anomaly["text"]))]
    drawn = draw_graph(graph, int(anomaly["block"]), lambda time_ns: (time_ns - origin) / 1e6)
    return svg_file([*pictures, *([drawn] if drawn else [])], title, str(anomaly["text"]))


def _quoted(text: object) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
