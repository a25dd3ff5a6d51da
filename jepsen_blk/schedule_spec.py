"""The [schedule] of a specification: which faults come when, as a tree that a seed turns into a plan.

A list of faults one after another is soon too little: a long test wants faults drawn by weight, at irregular
times, in phases. Each table here is one such combinator; nemesis/schedule.py says what it unrolls to.
What could only surprise (a part that is never reached, a date inside what is repeated) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from jepsen_blk.cue_spec import Cue
from jepsen_blk.table import Table

Seconds: TypeAlias = Annotated[float, Field(ge=0, le=86_400)]
Items: TypeAlias = "Annotated[tuple[Item, ...], Field(min_length=1)]"


class RangeSpec(Table):
    """An option's value is drawn from `min` to `max`, whole if both are."""

    min: int | float
    max: int | float

    @model_validator(mode="after")
    def _is_a_range(self) -> RangeSpec:
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is more than max ({self.max:g})")
        return self


class OneOfSpec(Table):
    """An option's value is one of these."""

    one_of: Annotated[tuple[Any, ...], Field(min_length=1)]


def _tag_of_option(value: object) -> str:
    if isinstance(value, RangeSpec) or (isinstance(value, dict) and value.keys() & {"min", "max"}):
        return "(range)"
    if isinstance(value, OneOfSpec) or (isinstance(value, dict) and "one_of" in value):
        return "(one of)"
    return "(given)"


def _tag_of_item(value: object) -> str | None:
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    kind = given.get("kind")
    if kind is None:
        return "(fault)" if "fault" in given else None
    return f"({kind})"


def _is_outermost(schedule: _Composite | PhasesSpec) -> _Composite | PhasesSpec:
    for key in ("weight", "for_s"):
        if getattr(schedule, key, None) is not None:
            raise ValueError(f"{key} has a meaning for items of a mix or of phases only; leave it out")
    return schedule


Option: TypeAlias = Annotated[
    Annotated[RangeSpec, Tag("(range)")]
    | Annotated[OneOfSpec, Tag("(one of)")]
    | Annotated[Any, Tag("(given)")],
    Discriminator(_tag_of_option),
]


class _Item(Table):
    """What may stand in the items of another table; the two keys are for the one that it stands in."""

    weight: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """In a mix: how often it is drawn beside the others, 1 where it is not given."""
    for_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """In phases: how long it lasts."""


class FaultSpec(_Item):
    """One fault; the pause before it is `after_s`, or drawn where a table around it has `stagger_s`."""

    fault: str
    after_s: Seconds | None = None
    at_s: Seconds | None = None
    """Not before this time, counted from the begin of the schedule or of the phase."""
    when: Cue | None = None
    """What it then waits for before it begins."""
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1
    options: dict[str, Option] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_start(self) -> FaultSpec:
        if self.at_s is not None and (self.after_s is not None or self.repeat > 1):
            raise ValueError("at_s excludes after_s and repeat: it is the time of one fault")
        return self


class _Composite(_Item):
    until_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """No fault of it begins that would not end by then, counted as at_s is."""
    stagger_s: Seconds | None = None
    """The pause before each fault is drawn from 0 to twice this."""
    items: Items

    @model_validator(mode="after")
    def _keys_have_a_meaning(self) -> _Composite:
        _refuse(self.items, "for_s", "phases")
        if not isinstance(self, MixSpec):
            _refuse(self.items, "weight", "a mix")
        return self


class _InOrder(_Composite):
    """Its items one after another."""

    @model_validator(mode="after")
    def _is_played_to_its_end(self) -> _InOrder:
        for number, item in enumerate(self.items[:-1]):
            if is_endless(item):
                raise ValueError(
                    f"items.{number} has no end, so what follows would never come; give it repeat or until_s"
                )
        return self


class SequenceSpec(_InOrder):
    """Its items one after another."""

    kind: Literal["sequence"]


class DuringSpec(_InOrder):
    """Its items one after another while `fault` stands: from its proof on, and for its own time at least."""

    kind: Literal["during"]
    fault: FaultSpec

    @model_validator(mode="after")
    def _fault_comes_once(self) -> DuringSpec:
        for key in ("weight", "for_s"):
            if getattr(self.fault, key) is not None:
                raise ValueError(f"fault.{key} has no meaning for what stands; give it to the item around it")
        if self.fault.repeat > 1:
            raise ValueError("fault.repeat has no meaning for what stands; put this into a cycle with repeat")
        return self


class _Repeated(_Composite):
    repeat: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How many rounds; 0: until its time is over."""

    @model_validator(mode="after")
    def _can_be_repeated(self) -> _Repeated:
        for number, item in enumerate(self.items):
            if is_endless(item):
                raise ValueError(f"items.{number} has no end, so no other round would come; give it repeat")
            if any(_is_dated(part) for part in _parts(item)):
                raise ValueError(
                    f"items.{number} has at_s or until_s, which come once only, and is repeated; "
                    "use after_s, or give until_s to what is around it"
                )
        return self


class CycleSpec(_Repeated):
    """Its items one after another, and again."""

    kind: Literal["cycle"]


class MixSpec(_Repeated):
    """Each round one of its items, drawn by weight."""

    kind: Literal["mix"]


class PhasesSpec(Table):
    """Its items one after another, each for its own time: a phase that is done early is waited out."""

    kind: Literal["phases"]
    items: Items

    @model_validator(mode="after")
    def _each_has_its_time(self) -> PhasesSpec:
        _refuse(self.items, "weight", "a mix")
        for number, item in enumerate(self.items):
            if item.for_s is None:
                raise ValueError(f"items.{number} needs for_s: how long the phase lasts")
        return self

    @property
    def lasts_s(self) -> float:
        """How long all phases take."""
        return fsum(item.for_s or 0.0 for item in self.items)


Composite: TypeAlias = SequenceSpec | DuringSpec | CycleSpec | MixSpec
Item: TypeAlias = Annotated[
    Annotated[FaultSpec, Tag("(fault)")]
    | Annotated[SequenceSpec, Tag("(sequence)")]
    | Annotated[DuringSpec, Tag("(during)")]
    | Annotated[CycleSpec, Tag("(cycle)")]
    | Annotated[MixSpec, Tag("(mix)")],
    Discriminator(
        _tag_of_item,
        custom_error_type="no_item",
        custom_error_message="Input should have fault, or kind 'sequence', 'cycle', 'mix' or 'during'",
    ),
]
Schedule: TypeAlias = Annotated[
    Annotated[SequenceSpec, Tag("(sequence)")]
    | Annotated[DuringSpec, Tag("(during)")]
    | Annotated[CycleSpec, Tag("(cycle)")]
    | Annotated[MixSpec, Tag("(mix)")]
    | Annotated[PhasesSpec, Tag("(phases)")],
    Discriminator(
        _tag_of_item,
        custom_error_type="no_schedule",
        custom_error_message="Input should have kind 'sequence', 'cycle', 'mix', 'during' or 'phases'",
    ),
    AfterValidator(_is_outermost),
]
for _model in (SequenceSpec, DuringSpec, CycleSpec, MixSpec, PhasesSpec):
    _model.model_rebuild()


def faults_of(item: Item | PhasesSpec) -> Iterator[FaultSpec]:
    """Yield every fault of a schedule or of a part of it, drawn or not."""
    return (part for part in _parts(item) if isinstance(part, FaultSpec))


def overlaps_of(item: Item | PhasesSpec) -> Iterator[tuple[FaultSpec, FaultSpec]]:
    """Yield every fault that may stand, with every one that may come during it."""
    for part in _parts(item):
        if isinstance(part, DuringSpec):
            for inner in part.items:
                yield from ((part.fault, fault) for fault in faults_of(inner))


def is_endless(item: Item | PhasesSpec) -> bool:
    """Tell whether only the time limit ends it."""
    if isinstance(item, FaultSpec | PhasesSpec) or item.until_s is not None:
        return False
    if isinstance(item, SequenceSpec | DuringSpec):
        return is_endless(item.items[-1])
    return item.repeat == 0


def _parts(item: Item | PhasesSpec) -> Iterator[Item]:
    if not isinstance(item, PhasesSpec):
        yield item
    if isinstance(item, DuringSpec):
        yield item.fault
    if not isinstance(item, FaultSpec):
        for inner in item.items:
            yield from _parts(inner)


def _is_dated(item: Item) -> bool:
    return (item.at_s if isinstance(item, FaultSpec) else item.until_s) is not None


def _refuse(items: tuple[Item, ...], key: str, where: str) -> None:
    for number, item in enumerate(items):
        if getattr(item, key) is not None:
            raise ValueError(f"items.{number}.{key} has a meaning in {where} only; leave it out")
