"""Shrinking a run: which candidate is tried next, how often, and when it is enough.

A lab is not deterministic, so a candidate fails if one of a few attempts does, with one of the anomalies that
the run had; `unknown` is not failing. How often the smallest fails is therefore seen by running it a few
times more. Every answer is recorded, and the same questions come in the same order, so a shrinking that was
interrupted goes on by asking them again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from jepsen_blk.errors import SpecError
from jepsen_blk.shrink import reductions
from jepsen_blk.shrink.budget import Budget, BudgetSpent
from jepsen_blk.shrink.candidate import Candidate, Form, key_of, told
from jepsen_blk.shrink.record import Ran, Record
from jepsen_blk.spec import Spec, dump_brief_spec

Run: TypeAlias = Callable[[Spec], Awaitable[Ran]]


class Progress(Protocol):
    """Who is told how far it is."""

    def trying(self, what: str, faults: str, attempt: int, attempts: int) -> None:
        """A run of a candidate begins."""

    def tried(self, what: str, faults: str, outcome: str, *, kept: bool, known: bool) -> None:
        """It is known how a candidate fares; `known` if that took no run now."""

    def confirming(self, number: int, of: int) -> None:
        """The smallest is run again."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """The smallest candidate that failed, and that run of it."""

    candidate: Candidate
    spec: Spec
    ran: Ran


class Shrinker:
    """Makes a failing test smaller; what it has is in `smallest`, whatever ends it."""

    def __init__(
        self,
        forms: Sequence[Form],
        kinds: frozenset[str],
        run: Run,
        record: Record,
        budget: Budget,
        progress: Progress,
        attempts: int,
    ) -> None:
        self._forms = forms
        self._kinds = kinds
        self._run = run
        self._record = record
        self._budget = budget
        self._progress = progress
        self._attempts = attempts
        self.smallest: Smallest | None = None
        self.done = False
        """Whether nothing is left to try."""

    async def shrink(self) -> None:
        """Go on until nothing is left to try or the budget is spent."""
        try:
            await self._reduce()
        except BudgetSpent:
            return
        self.done = True

    async def confirm(self, times: int) -> None:
        """Run the smallest until it was run `times` to see how often it fails."""
        while self.smallest is not None and len(self._confirming(self.smallest)) < times:
            spec = self.smallest.spec
            self._progress.confirming(len(self._confirming(self.smallest)) + 1, times)
            await self._run_once(spec, confirms=True)

    @property
    def confirmed(self) -> tuple[int, int]:
        """How often the smallest failed, of how many runs that were made to see this."""
        runs = self._confirming(self.smallest) if self.smallest else []
        return sum(map(self._is_hit, runs)), len(runs)

    def _confirming(self, smallest: Smallest) -> list[Ran]:
        return self._record.of(key_of(smallest.spec), confirms=True)

    async def _reduce(self) -> None:
        candidate = await self._reproduce()
        if candidate is None:
            return
        for reduction in (
            reductions.fewest_faults,
            reductions.fewest_script_steps,
            reductions.simplest_options,
            reductions.simplest_workload,
        ):
            candidate = await reduction(candidate, self._fails)
        if self.smallest is not None:
            await reductions.shortest_time(candidate, self.smallest.ran.duration_s, self._fails)

    async def _reproduce(self) -> Candidate | None:
        """Return the first form of the run that fails again."""
        for form in self._forms:
            if await self._fails(form.candidate, form.what):
                return form.candidate
        return None

    async def _fails(self, candidate: Candidate, what: str) -> bool:
        """Tell whether a candidate fails; if so it is the smallest from now on."""
        faults = told(candidate.steps)
        try:
            spec = candidate.spec()
        except SpecError as error:
            if self.smallest is None:  # else it is one of many that were drawn from it, and there are others
                self._progress.tried(what, faults, f"cannot be: {error}", kept=False, known=False)
            return False
        runs = self._record.of(key_of(spec))
        known = len(runs)
        while not (hit := next(filter(self._is_hit, runs), None)) and len(runs) < self._attempts:
            self._budget.spend_run()
            self._progress.trying(what, faults, len(runs) + 1, self._attempts)
            runs.append(await self._run_once(spec))
        if hit:
            self._record.keep_only(hit)
            self.smallest = Smallest(candidate, spec, hit)
        outcome = _outcome(runs, hit)
        self._progress.tried(what, faults, outcome, kept=hit is not None, known=len(runs) == known)
        return hit is not None

    async def _run_once(self, spec: Spec, *, confirms: bool = False) -> Ran:
        """Run a specification and record it; of the runs only one that may be kept stays on the disk."""
        ran = await self._run(spec)
        self._record.add(key_of(spec), ran, dump_brief_spec(spec), confirms=confirms)
        if confirms or not self._is_hit(ran):
            self._record.delete(ran)
        return ran

    def _is_hit(self, ran: Ran) -> bool:
        return ran.verdict == "fail" and not self._kinds.isdisjoint(ran.kinds)


def _outcome(runs: Sequence[Ran], hit: Ran | None) -> str:
    """Say how the runs of a candidate ended."""
    if hit is not None:
        tries = f", at attempt {len(runs)}" if len(runs) > 1 else ""
        return f"fails by {', '.join(hit.kinds)}{tries}"
    verdicts = dict.fromkeys(
        f"{ran.verdict} by {', '.join(ran.kinds)}" if ran.kinds else ran.verdict for ran in runs
    )
    times = f" in {len(runs)} runs" if len(runs) > 1 else ""
    return f"{' and '.join(verdicts)}{times}"
