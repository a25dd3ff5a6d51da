"""The demonstration: three tests on real guests that show what a verdict means.

A control that must pass, the founding case that must fail, and the same failure on a stock server.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from jepsen_blk.controller import Outcome, run_test
from jepsen_blk.report.terminal import LiveView, print_verdict, summary_table
from jepsen_blk.spec import load_spec

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class DemoTest:
    """One test of the demonstration and what it must show."""

    name: str
    expected: str
    shows: str


TESTS = (
    DemoTest("control", "pass", "healthy live migrations under load: nothing may be lost"),
    DemoTest("case-2006", "fail", "path lost, migrated, re-issued: a late write overwrites a newer one"),
    DemoTest("no-policy", "fail", "the same on a stock server, with the write held by the network"),
)
