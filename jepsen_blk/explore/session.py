"""One call of `jepsen-blk explore`: from the case to what is shown, written and returned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import typer
from rich.console import Console

from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS
from jepsen_blk.explore.case import Case
from jepsen_blk.explore.finding import Finding, Progress, Say, explore
from jepsen_blk.explore.replayed import replay_simulated
from jepsen_blk.explore.script import Script, write_script
from jepsen_blk.explore.show import as_object, print_finding, print_not_written, print_table, print_written
from jepsen_blk.explore.trace import trace
from jepsen_blk.spec import HandoffPolicy
from jepsen_blk.storage.conflict import ConflictModel


def explore_one(case: Case, out: Path | None, *, as_json: bool, say: Say) -> int:
    """Explore a case, show it, and write its counter-example to `out`; return 0 where it is safe, else 1.

    Raises UserError where `out` cannot be written.
    """
    finding = explore(case, Progress(say))
    script = script_of(finding)
    console = Console(highlight=False)
    if as_json:
        typer.echo(json.dumps(as_object(finding, script)))
    else:
        print_finding(finding, script, console)
    if out and script:
        _write(finding, script, out, Console(highlight=False, stderr=as_json))
    return EXIT_PASS if finding.safe else EXIT_FAIL


def _write(finding: Finding, script: Script, out: Path, console: Console) -> None:
    """Write the counter-example as a test, or the shortest without a late wire if only that can be played."""
    scripts = [script]
    if finding.prompt is not None and not finding.prompt.safe:
        scripts += [write_script(trace(finding.prompt.case, finding.prompt.path))]
    missed = [replay_simulated(each.spec) for each in scripts]
    played = [each for each, misses in zip(scripts, missed, strict=True) if not misses]
    if played:
        played[0].write(out)
        print_written(played[0], out, console)
    else:
        print_not_written(script, missed[0], console)
    if played and played[0] is not script:
        console.print(
            "It is the shortest with nothing left on the wire: the other cannot be played by steps."
        )


def explore_all(case: Case, *, as_json: bool, say: Say) -> int:
    """Explore every conflict model and policy for the case's frontend and scope; return 0 if all are safe."""
    findings: list[Finding] = []
    every, progress = list(cells(case)), Progress(say)
    for each in every:
        findings.append(
            explore(each, lambda line: progress(f"{len(findings)} of {len(every)} cases; {line}"))
        )
    if as_json:
        typer.echo(json.dumps([as_object(finding, script_of(finding)) for finding in findings]))
    else:
        print_table(findings, Console(highlight=False))
    return EXIT_PASS if all(finding.safe for finding in findings) else EXIT_FAIL


def cells(case: Case) -> Iterator[Case]:
    """Yield the case under every conflict model and policy."""
    for conflict, policy in product(ConflictModel, HandoffPolicy):
        yield replace(case, conflict=conflict, policy=policy)


def script_of(finding: Finding) -> Script | None:
    """Return the choreography of the counter-example, if there is one."""
    return None if finding.safe else write_script(trace(finding.case, finding.path))
