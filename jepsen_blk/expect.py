"""Whether a test ended as its specification expects: what makes a scenario a regression test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jepsen_blk.spec import ExpectSpec


def misses(expect: ExpectSpec, results: Mapping[str, Any]) -> list[str]:
    """Say what is not as expected in the object of results.json; nothing if all is."""
    return list(_misses(expect, results))


def _misses(expect: ExpectSpec, results: Mapping[str, Any]) -> Iterator[str]:
    if results["verdict"] != expect.verdict:
        yield f"the verdict is {results['verdict']}, not {expect.verdict}"
    seen = {str(anomaly["kind"]) for anomaly in results["anomalies"]}
    for kind in sorted(seen.symmetric_difference(expect.anomalies)):
        yield f"{kind} was {'not ' if kind in expect.anomalies else ''}found"
    for deadline, verdict in expect.deadlines.items():
        found = results["deadlines"].get(deadline)
        if found != verdict:
            yield f"the verdict under {deadline} is {found}, not {verdict}"
