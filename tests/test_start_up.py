"""Judging a small history is a matter of moments, so nothing heavy may be loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from histories import history, read, write

from jepsen_blk.history.interchange import write_jsonl

HEAVY = (
    "asyncio",
    "importlib.metadata",
    "networkx",
    "numba",
    "numpy.ma",
    "plotly",
    "jinja2",
    "rich",
    "pydantic",
    "jepsen_blk.spec",
)
CHECK = """
import json, sys
from jepsen_blk.cli import main
code = main(["check", "--json", sys.argv[1]])
print(json.dumps([code, sorted(sys.modules)]))
"""


def test_checking_a_small_file_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    write_jsonl(history([write(1, 0, 5), read(1, 6, 8)]), file)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(file)], capture_output=True, text=True, timeout=60, check=True
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert not set(HEAVY) & set(loaded)
