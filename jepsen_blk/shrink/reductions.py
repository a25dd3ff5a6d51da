"""How a failing test is made smaller, in order: faults, steps of scripts, options, workload, time limit.

Pure but for the question whether a candidate fails, which is awaited. Each function takes a candidate that
fails and returns one that fails and is no larger. Faults are a tree, as they come during others and scripts
have steps; it is reduced level by level from the outside, as in G. Misherghi and Z. Su, "HDD: Hierarchical
Delta Debugging", ICSE 2006. A value goes to the first of a few simpler ones that still fails: a run is too
dear to search for the smallest number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil
from typing import Any, TypeAlias

from jepsen_blk.errors import SpecError
from jepsen_blk.shrink.candidate import ALONE_S, Candidate, Place, in_few_words
from jepsen_blk.shrink.ddmin import ddmin
from nemesis.catalogue import default_options
from nemesis.explicit import DEFAULT_PAUSE_S, same_value
from nemesis.plan import Step, is_script

Fails: TypeAlias = Callable[[Candidate, str], Awaitable[bool]]
"""Tell whether a candidate fails; the text says what is smaller in it."""

_SIMPLER: dict[str, tuple[float, ...]] = {
    "blocks": (1, 4, 16, 64),
    "hot_blocks": (1,),
    "queue_depth": (1, 4),
    "burst_fraction": (0,),
    "flush_fraction": (0,),
    "overlapping_writes": (False,),
}
"""Values of the workload, the simplest first."""
_PARTS = (4, 2)
"""By what the time beyond the default is divided where the default does not fail."""
_LEAST_TIME_LIMIT_S = 15.0
_SLOWER = 3
"""By how much another machine may be slower."""
_LEAST_ALONE_S = 1.0


async def fewest_faults(candidate: Candidate, fails: Fails, place: Place = ()) -> Candidate:
    """Leave out some of the faults during the one at `place`, or of the outermost, then of those during each.

    A fault that others come during may also go alone: then they come in its place.
    """
    all_faults = candidate.during(place)

    async def part_fails(part: tuple[Step, ...]) -> bool:
        what = f"{len(part)} of {len(all_faults)} faults" if part or place else "the workload alone"
        return await fails(candidate.put_during(place, part), what)

    smaller = candidate.put_during(place, await ddmin(all_faults, part_fails))
    for number, step in enumerate(smaller.during(place)):
        if step.during:
            steps = smaller.during(place)
            alone = smaller.put_during(place, (*steps[:number], *step.during, *steps[number + 1 :]))
            if await fails(alone, f"without the {step.fault} around"):
                return await fewest_faults(alone, fails, place)
            smaller = await fewest_faults(smaller, fails, (*place, number))
    return smaller


async def fewest_script_steps(candidate: Candidate, fails: Fails) -> Candidate:
    """Leave out steps of scripts: of every option that is a list of tables."""
    for place in candidate.places:
        for name, value in candidate.at(place).options.items():
            if is_script(value):
                candidate = await _fewest_of_script(candidate, place, name, fails)
    return candidate


async def _fewest_of_script(candidate: Candidate, place: Place, name: str, fails: Fails) -> Candidate:
    script = candidate.at(place).options[name]

    def build(part: tuple[int, ...]) -> Candidate:
        return candidate.put(place, _with_option(candidate.at(place), name, [script[at] for at in part]))

    async def part_fails(part: tuple[int, ...]) -> bool:
        gone = in_few_words(str(step.get("do")) for at, step in enumerate(script) if at not in part)
        return await fails(build(part), f"{len(part)} of {len(script)} steps of the script, without {gone}")

    return build(await ddmin(range(len(script)), part_fails))


async def simplest_options(candidate: Candidate, fails: Fails) -> Candidate:
    """Take options and pauses to their defaults: at once if that fails, else each, times part of the way."""
    plain = candidate
    for place in candidate.places:
        step = plain.at(place)
        plain = plain.put(
            place, replace(step, options=step.options | _defaults(step), after_s=_pause_s(step))
        )
    if plain == candidate or await fails(plain, "every option and pause by default"):
        return plain
    for place in candidate.places:
        for name in _defaults(candidate.at(place)):
            candidate = await _first_that_fails(_simpler_option(candidate, place, name), candidate, fails)
        candidate = await _first_that_fails(_simpler_pause(candidate, place), candidate, fails)
    return candidate


async def simplest_workload(candidate: Candidate, fails: Fails) -> Candidate:
    """Take the workload to few blocks, few operations at once and few kinds of them."""
    for name in _SIMPLER:
        candidate = await _first_that_fails(_simpler_workload(candidate, name), candidate, fails)
    return candidate


async def shortest_time(candidate: Candidate, took_s: float, fails: Fails) -> Candidate:
    """Lower the time limit of a test that took `took_s`.

    Faults end a test by themselves, so their limit is for a machine that is slower; without faults the limit
    is the time that the test takes, and is halved.
    """
    now_s = candidate.rest.time_limit_s
    if candidate.steps:
        limit_s = float(max(_LEAST_TIME_LIMIT_S, ceil(_SLOWER * took_s)))
        return await _with_limit(candidate, limit_s, fails) if limit_s < now_s else candidate
    limit_s = min(now_s, ALONE_S) / 2
    while limit_s >= _LEAST_ALONE_S:
        shorter = await _with_limit(candidate, limit_s, fails)
        if shorter == candidate:
            break
        candidate, limit_s = shorter, limit_s / 2
    return candidate


async def _with_limit(candidate: Candidate, limit_s: float, fails: Fails) -> Candidate:
    shorter = candidate.with_rest(time_limit_s=limit_s)
    return shorter if await fails(shorter, f"time_limit_s {limit_s:g}") else candidate


async def _first_that_fails(
    candidates: Iterable[tuple[Candidate, str]], otherwise: Candidate, fails: Fails
) -> Candidate:
    for candidate, what in candidates:
        if await fails(candidate, what):
            return candidate
    return otherwise


def _simpler_option(candidate: Candidate, place: Place, name: str) -> Iterator[tuple[Candidate, str]]:
    step = candidate.at(place)
    value, default = step.options.get(name), _defaults(step)[name]
    if name in step.options and not same_value(value, default):
        for simpler in (default, *(_shorter(value, default) if name.endswith("_s") else ())):
            what = f"{step.fault}: {name} {simpler}, not {value}"
            yield candidate.put(place, _with_option(step, name, simpler)), what


def _simpler_pause(candidate: Candidate, place: Place) -> Iterator[tuple[Candidate, str]]:
    step = candidate.at(place)
    default = _pause_s(step)
    if step.after_s != default:
        for simpler in (default, *_shorter(step.after_s, default)):
            what = f"{step.fault}: after {simpler:g} s, not {step.after_s:g} s"
            yield candidate.put(place, replace(step, after_s=simpler)), what


def _simpler_workload(candidate: Candidate, name: str) -> Iterator[tuple[Candidate, str]]:
    workload = candidate.rest.workload
    now: Any = getattr(workload, name, None)
    for value in () if now is None else (value for value in _SIMPLER[name] if value < now):
        changes: dict[str, Any] = {name: value}
        if name == "blocks" and getattr(workload, "hot_blocks", 0) > value:
            changes["hot_blocks"] = value
        try:
            simpler = candidate.with_rest(workload=changes)
        except SpecError:  # the workload of another package may need more
            continue
        yield simpler, f"workload: {name} {value}, not {now}"


def _shorter(value_s: Any, default_s: Any) -> Iterator[float]:
    """Yield times between a default and a longer time."""
    if isinstance(value_s, int | float) and isinstance(default_s, int | float) and value_s > default_s:
        yield from (round(default_s + (value_s - default_s) / part, 3) for part in _PARTS)


def _with_option(step: Step, name: str, value: Any) -> Step:
    return replace(step, options={**step.options, name: value})


def _defaults(step: Step) -> dict[str, Any]:
    return default_options(step.fault)


def _pause_s(step: Step) -> float:
    """Return the pause that is not written: a date has none."""
    return 0.0 if step.from_s else DEFAULT_PAUSE_S
