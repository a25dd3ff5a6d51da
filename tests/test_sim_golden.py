"""One seed gives the same bytes under every Python: what was written down once is found again here."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sim_golden import GOLDEN, TESTS

WRITTEN_DOWN = tomllib.loads(GOLDEN.read_text())


@pytest.mark.parametrize(("name", "hashes"), list(zip(TESTS, ("0", "1", "4711"), strict=True)))
def test_a_history_is_the_one_that_was_written_down(name: str, hashes: str) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "sim_golden.py"), name],
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == WRITTEN_DOWN[name], (
        "the simulator does something else now, or something else under this Python; "
        "if it is meant to, run `python tests/sim_golden.py`"
    )
