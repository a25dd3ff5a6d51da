"""The program as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("jepsen-blk")


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def only_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the one line said on stderr; nothing else was said, and the exit code is `code`."""
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("jepsen-blk: ")
    return line.removeprefix("jepsen-blk: ")


@dataclass
class Outcome:
    """What a test of the controller's shape ends with."""

    verdict: str
    results: dict[str, object]
    run_dir: Path
