"""The verbs of the command line that play what is known to end so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jepsen_blk.errors import EXIT_PASS

LabOption = Annotated[
    str | None, typer.Option(help="Where they run: local (QEMU) or sim; local if that can be had.")
]


def demo(
    lab: LabOption = None, store: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("store")
) -> int:
    """Run three tests: a control, the case of 2006, and the same on a stock server."""
    from jepsen_blk.default_lab import choose_lab, parse_lab
    from jepsen_blk.spec import Spec
    from jepsen_blk.store import require_store

    chosen = choose_lab(parse_lab(lab), Spec().guest.memory_mb, lambda line: typer.echo(line, err=True))
    require_store(store)

    from jepsen_blk.demo import run_demo

    return run_demo(store, lab=chosen)


def scenarios(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Which ones.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one.")] = False,
    times: Annotated[int, typer.Option(min=1, max=10_000, help="How often each.")] = 1,
    seed: Annotated[int, typer.Option(help="The seed of the first time.")] = 0,
    lab: LabOption = None,
    show: Annotated[bool, typer.Option("--print", help="Print the specification; play nothing.")] = False,
    store: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("store"),
) -> int:
    """Play stale overwrites in exact interleavings, each with its known end; without a name, list them."""
    from jepsen_blk.default_lab import choose_lab, parse_lab
    from jepsen_blk.scenarios import NAMES, scenario, scenario_file

    wanted = parse_lab(lab)
    if every and names:
        raise typer.BadParameter("it has every one, so leave out the names", param_hint="--all")
    chosen = list(NAMES if every else dict.fromkeys(names or ()))
    files = [scenario_file(name) for name in chosen]
    if show:
        typer.echo("\n".join(file.read_text(encoding="utf-8") for file in files), nl=False)
        return EXIT_PASS
    if not chosen:
        from rich.console import Console

        from jepsen_blk.report.scenarios import print_scenarios

        print_scenarios([scenario(name) for name in NAMES], Console(highlight=False))
        return EXIT_PASS

    from jepsen_blk.store import require_store

    memory_mb = max(scenario(name).guest.memory_mb for name in chosen)
    where = choose_lab(wanted, memory_mb, lambda line: typer.echo(line, err=True))
    require_store(store)

    from jepsen_blk.scenarios.regression import play_scenarios

    return play_scenarios(chosen, times, store, seed, lab=where)
