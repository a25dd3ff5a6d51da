"""What a comparison shows, in words: made from its cells by rules, so that no sentence says more than they.

A claim of safety never stands alone: with it come the runs without a failure and the bound they give.
Policies that are judged alike in every cell share a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from jepsen_blk.campaign.summary import CellSummary, Judgement
from jepsen_blk.report.comparison.groups import Place, place_of, policies_of, storages_of, word_for
from jepsen_blk.report.comparison.wording import CONFIDENCE, listed, percent

Standing = Literal["safe", "unsafe", "open"]
"""Of policies over all their cells: safe in each, unsafe in one at least, or neither."""
_MOST_NAMED = 5
_MOST_PLACES = 3
_SAID = {"frontend": "with", "nemesis": "under", "lab": "on lab"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed of `policies`; the first sentence of `said` reads on from their names."""

    policies: tuple[str, ...]
    standing: Standing
    said: tuple[str, ...]
    cells: tuple[CellSummary, ...]

    @property
    def who(self) -> str:
        """The policies' names."""
        return listed(self.policies)


def claims_of(cells: Sequence[CellSummary]) -> tuple[Claim, ...]:
    """Return claims that have every policy once, in the order of the tables."""
    alike: dict[frozenset[tuple[Place, str, Judgement]], list[str]] = {}
    for policy in policies_of(cells):
        own = [cell for cell in cells if cell.cell.policy == policy]
        judged = frozenset((place_of(cell), cell.cell.storage, cell.judgement) for cell in own)
        alike.setdefault(judged, []).append(policy)
    return tuple(_claim(policies, cells) for policies in alike.values())


def headline_of(cells: Sequence[CellSummary]) -> tuple[str, ...]:
    """Return what leads: which policies are safe, on how many runs that stands, and how many are not."""
    claims = claims_of(cells)
    count = len(policies_of(cells))
    parts = []
    safe = [claim for claim in claims if claim.standing == "safe"]
    if safe:
        names = [policy for claim in safe for policy in claim.policies]
        who = listed(names) if len(names) <= _MOST_NAMED else f"{len(names)} of {count} policies"
        parts.append(f"{who}: {_none_failed([cell for claim in safe for cell in claim.cells])}.")
    for standing, said in (("unsafe", "unsafe"), ("open", "undecided")):
        number = sum(len(claim.policies) for claim in claims if claim.standing == standing)
        if number:
            parts.append(f"{number} of {count} policies {'is' if number == 1 else 'are'} {said}.")
    return tuple(parts)


def _claim(policies: Sequence[str], cells: Sequence[CellSummary]) -> Claim:
    own = tuple(cell for cell in cells if cell.cell.policy in policies)
    word = word_for(storages_of(cells))
    several = len(policies) > 1
    judged = {cell.judgement for cell in own}
    standing: Standing = "unsafe" if "unsafe" in judged else "safe" if judged == {"safe"} else "open"
    parts, every = _parted(own), {place_of(cell) for cell in cells}
    said: list[str] = []
    for places, part in parts:
        where = _with(places, every)
        said += _said(part, word, where, lead=not said, several=several)
    return Claim(tuple(policies), standing, tuple(said), own)


def _said(cells: Sequence[CellSummary], word: str, where: str, *, lead: bool, several: bool) -> list[str]:
    """Say what holds at places at which every storage is judged alike; `where` has the first sentence."""
    storages = storages_of(cells)
    said: list[str] = []

    def say(judgement: Judgement, is_so: str, outcome: str) -> None:
        on = _on([cell for cell in cells if cell.judgement == judgement], storages, word)
        verb, subject = ("are", "they are") if several else ("is", "it is")
        if said:
            said.append(f"On {on} {subject} {is_so}: {outcome}.")
        elif lead:
            said.append(f"{verb} {is_so} on {on}{where}: {outcome}.")
        else:
            said.append(f"{where[2:3].upper()}{where[3:]} {subject} {is_so} on {on}: {outcome}.")

    by = {judgement: [cell for cell in cells if cell.judgement == judgement] for judgement in _judged(cells)}
    if unsafe := by.get("unsafe"):
        failed, runs = (sum(getattr(cell.failed, name) for cell in unsafe) for name in ("count", "of"))
        say("unsafe", "unsafe", f"{failed:,} of {runs:,} runs failed there")
    if safe := by.get("safe"):
        say("safe", "safe", _none_failed(safe))
    if undecided := by.get("undecided"):
        say("undecided", "undecided", f"{_none_failed(undecided)}; more runs are needed")
    if unknown := by.get("unknown"):
        say("unknown", "unknown", f"none of {sum(cell.runs for cell in unknown):,} runs could be judged")
    return said


def _judged(cells: Iterable[CellSummary]) -> set[Judgement]:
    return {cell.judgement for cell in cells}


def _parted(cells: Sequence[CellSummary]) -> list[tuple[list[Place], list[CellSummary]]]:
    """Put places together at which every storage is judged alike."""
    places: dict[Place, list[CellSummary]] = {}
    for cell in cells:
        places.setdefault(place_of(cell), []).append(cell)
    parts: dict[frozenset[tuple[str, Judgement]], tuple[list[Place], list[CellSummary]]] = {}
    for place, own in places.items():
        key = frozenset((cell.cell.storage, cell.judgement) for cell in own)
        alike, part = parts.setdefault(key, ([], []))
        alike.append(place)
        part += own
    return list(parts.values())


def _on(cells: Sequence[CellSummary], storages: Sequence[str], word: str) -> str:
    """Name the storages of cells by the shorter of what they are and what they are not."""
    own = {cell.cell.storage for cell in cells}
    rest = [name for name in storages if name not in own]
    if len(storages) > 1 and len(rest) < len(own):
        return f"every {word}" + (f" but {listed(rest)}" if rest else " tried")
    return listed([name for name in storages if name in own])


def _with(places: Sequence[Place], every: set[Place]) -> str:
    """Name the places by what tells them from the others, or say how many there are."""
    varied = [name for name in _SAID if len({getattr(place, name) for place in every}) > 1]
    if not varied:
        return ""
    if len(places) > _MOST_PLACES:
        some = "all of" if len(places) == len(every) else f"{len(places)} of"
        return f", in {some} {len(every)} combinations of lab, frontend and nemesis"
    names = []
    for place in places:
        words = [f"{_SAID[name]} {getattr(place, name)}" for name in varied]
        names.append(" ".join(words).removeprefix(f"{_SAID[varied[0]]} "))
    return f", {_SAID[varied[0]]} {listed(names)}"


def _none_failed(cells: Sequence[CellSummary]) -> str:
    """Say that none of the runs failed, and what is the most that the weakest cell allows."""
    runs = sum(cell.failed.of for cell in cells)
    most = percent(max(cell.failed.high for cell in cells), up=True)
    in_any = " in any cell" if len(cells) > 1 else ""
    return f"0 of {runs:,} runs failed, so at most {most} do{in_any} ({CONFIDENCE})"
