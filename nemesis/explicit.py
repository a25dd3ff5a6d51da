"""From a plan back to a specification that makes exactly this plan, whatever the seed.

Nothing is drawn in it: a list of faults, or a schedule where faults come during others or have a date. It
says no more than it must, since people read it: defaults are left out, and what comes again is written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from jepsen_blk.spec import NemesisSpec
from nemesis.catalogue import default_options
from nemesis.plan import Step

DEFAULT_PAUSE_S: float = NemesisSpec.model_fields["after_s"].default
_MOST_REPEATS = 10_000
"""The most that `repeat` may be."""


def undated(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps one after another, each after its pause and at no date."""
    return tuple(_changed(step, step.after_s, 0.0, undated(step.during)) for step in steps)


def dated(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps at their dates, so that they can be written: a date with a pause is a later date.

    The ends of the parts that they were in are gone: every one of them is played.
    """
    return tuple(
        _changed(
            step,
            0.0 if step.from_s else step.after_s,
            step.from_s + step.after_s if step.from_s else 0.0,
            dated(step.during),
        )
        for step in steps
    )


def explicit(steps: Sequence[Step]) -> dict[str, Any]:
    """Return `nemesis` and `schedule` of a specification; the steps are of `undated` or `dated`."""
    if not any(step.during or step.from_s for step in steps):
        return {"nemesis": list(_items(steps)), "schedule": None}
    items = list(_items(steps))
    alone = items[0] if len(items) == 1 and "kind" in items[0] else None
    return {"nemesis": [], "schedule": alone or {"kind": "sequence", "items": items}}


def _written_options(step: Step) -> dict[str, Any]:
    """Return the options of a step that are not their defaults."""
    defaults = default_options(step.fault)
    return {
        name: value
        for name, value in step.options.items()
        if name not in defaults or not same_value(value, defaults[name])
    }


def same_value(one: Any, other: Any) -> bool:
    """Tell whether two values of an option are written the same: a stored tuple comes back as a list."""
    return one == other or json.dumps(one, default=list) == json.dumps(other, default=list)


def _changed(step: Step, after_s: float, from_s: float, during: tuple[Step, ...]) -> Step:
    return replace(step, after_s=after_s, from_s=from_s, until_s=None, during=during)


def _items(steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    for _, group in groupby(enumerate(steps), key=lambda numbered: _what_repeats(*numbered)):
        same = [step for _, step in group]
        item = _fault(same[0])
        if same[0].during:
            yield {"kind": "during", "fault": item, "items": list(_items(same[0].during))}
        else:
            yield item | ({"repeat": len(same)} if len(same) > 1 else {})


def _what_repeats(number: int, step: Step) -> tuple[Any, ...]:
    """Return what neighbours have to share to be written as one that is repeated."""
    if step.during or step.from_s:
        return (number,)
    return (
        number // _MOST_REPEATS,
        step.fault,
        step.after_s,
        json.dumps(step.options, sort_keys=True, default=list),
        step.when,
    )


def _fault(step: Step) -> dict[str, Any]:
    begins: dict[str, Any] = {}
    if step.from_s:
        begins = {"at_s": step.from_s}
    elif step.after_s != DEFAULT_PAUSE_S:
        begins = {"after_s": step.after_s}
    if step.when:
        begins |= {"when": {"event": step.when.event, **step.when.model_dump(exclude_defaults=True)}}
    options = _written_options(step)
    return {"fault": step.fault, **begins, **({"options": options} if options else {})}
