"""The source of a workload that the guest's image does not have, as it is sent into the guest.

It comes from a package that is installed beside this one, never from a specification: who can write one of
those must not be able to run code. What would fail in the guest is refused here, before a lab is built.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass

from jepsen_blk.plugins import PluginError
from jepsen_blk.workload_spec import WorkloadSpec

MODULES = (
    *("__future__", "_random", "abc", "array", "bisect", "collections", "collections.abc", "enum"),
    *("functools", "heapq", "itertools", "math", "operator", "random", "struct", "time", "typing"),
    "workloads.agent.operations",
)
"""What a source may import: the guest's image has these modules and those that they need."""
_PYTHON = (3, 11)
_LIMIT_BYTES = 48 << 10
"""As JSON; the agent takes no longer line than 64 KiB."""


@dataclass(frozen=True, slots=True)
class SentWorkload:
    """The name that a specification calls it by, and the text of its module."""

    name: str
    source: str


def sent_workload(spec: WorkloadSpec) -> SentWorkload | None:
    """Return what is sent for the workload, None if the image has it; raises PluginError."""
    if not spec.agent_module:
        return None
    where = f"workload {spec.name!r}: module {spec.agent_module}"
    try:
        found = importlib.util.find_spec(spec.agent_module)
        source = found.loader.get_source(found.name) if found and found.loader else None  # type: ignore[attr-defined]
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(f"{where} cannot be found: {error}; mend or update its package") from error
    if source is None:
        raise PluginError(f"{where} has no source that could be sent; reinstall its package with its sources")
    problem = "; ".join(_problems(source))
    if problem:
        raise PluginError(f"{where} cannot run in the guest: {problem}; mend or update its package")
    return SentWorkload(spec.name, source)


def _problems(source: str) -> Iterator[str]:
    size = len(json.dumps(source))
    if size > _LIMIT_BYTES:
        yield f"it takes {size:,} bytes on the link, and {_LIMIT_BYTES:,} is the most"
    try:
        tree = ast.parse(source, feature_version=_PYTHON)
    except SyntaxError as error:
        yield f"line {error.lineno}: {error.msg}"
        return
    for line, module in _imports(tree):
        if module not in MODULES:
            yield f"line {line}: it imports {module}, and may import {', '.join(MODULES)} only"


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{'.' * node.level}{node.module or ''}"
            inner = {f"{module}.{alias.name}" for alias in node.names}
            yield from ((node.lineno, name) for name in (inner if inner <= set(MODULES) else {module}))
