"""The verb of the command line that makes a failing test smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shrink(
    path: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run; without one the newest.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the smallest test is written: RUN/shrunk.toml.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Runs after which a candidate passes for good.")] = 3,
    budget: Annotated[
        str, typer.Option(metavar="RUNS|TIME", help="When to stop: 60 (runs), 90s, 30m, 2h.")
    ] = "60",
    confirm: Annotated[int, typer.Option(min=0, help="Runs of the smallest, to see how often it fails.")] = 5,
    store: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("store"),
) -> int:
    """Find the fewest faults, and the least beside them, with which a failed run still fails."""
    from rich.console import Console

    from jepsen_blk.doctor import require_runnable
    from jepsen_blk.shrink.budget import parse_budget
    from jepsen_blk.shrink.session import Effort, shrink_run
    from jepsen_blk.shrink.subject import load_subject
    from jepsen_blk.shrink.written import SHRUNK, require_writable
    from jepsen_blk.store import latest

    effort = Effort(attempts, confirm, parse_budget(budget))
    subject = load_subject(path or latest(store))
    target = out or subject.run_dir / SHRUNK
    require_writable(target)
    if subject.spec.lab == "local":
        require_runnable(subject.spec.guest.memory_mb)
    return shrink_run(subject, target, effort, Console(highlight=False))
