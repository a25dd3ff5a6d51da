"""What each handoff policy relies on, and a simulated run that fails once it is taken away.

A table of safe policies is true of the faults that were tried. Each policy rests on something that these
may have left alone; whoever chooses one has to know what, and to see it break.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.spec import HandoffPolicy, Spec, load_spec

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that a policy relies on.

    `removed` says in words when it does not hold; `run` names the specification in which it does not.
    """

    policy: HandoffPolicy
    relies_on: str
    removed: str
    run: str


ASSUMPTIONS = (
    Assumption(
        HandoffPolicy.REQUEUE,
        "luck",
        "the storage works on a write of the source for longer than the guest takes to move",
        "requeue-accepted-write",
    ),
    Assumption(
        HandoffPolicy.DRAIN,
        "the storage knowing all that is in flight",
        "a write is still in the network: the storage, asked, has nothing in flight",
        "drain-write-in-network",
    ),
    Assumption(
        HandoffPolicy.CANCEL_INITIATOR,
        "nothing being on the wire or accepted",
        "the storage has accepted a write before its connection is dropped",
        "cancel-initiator-accepted-write",
    ),
    Assumption(
        HandoffPolicy.PREEMPT,
        "nothing having been accepted",
        "the storage has accepted a write before the source is refused",
        "preempt-accepted-write",
    ),
    Assumption(
        HandoffPolicy.PREEMPT_ABORT,
        "the source staying shut out until all that it sent is gone",
        "the guest returns and the source is admitted again, before its old write has come",
        "preempt-abort-back-too-soon",
    ),
    Assumption(
        HandoffPolicy.EPOCH,
        "every acknowledged write coming to the check at the media",
        "the storage acknowledges the guest's new writes and applies none, while an old one is in flight",
        "epoch-ignored-write",
    ),
    Assumption(
        HandoffPolicy.EPOCH,
        "a write carrying the generation under which it was issued",
        "the storage stamps a write on arrival: an old one comes when its node has the newest generation",
        "epoch-back-too-soon",
    ),
    Assumption(
        HandoffPolicy.SINGLE_WRITER,
        "the storage knowing all that the source sent, or the source staying shut out",
        "the guest returns and the source is the writer again, before its old write has come",
        "single-writer-back-too-soon",
    ),
    Assumption(
        HandoffPolicy.QUIESCE,
        "time: no write takes longer than the wait",
        "a write takes longer than handoff.quiesce_s",
        "quiesce-slower-write",
    ),
    Assumption(
        HandoffPolicy.STONITH,
        "the source's writes dying with it",
        "the storage has accepted a write before the source is killed",
        "stonith-accepted-write",
    ),
)
_LYING = "A storage that says wrongly what it has in flight would break it as well; no fault has one do that."
_UNTRIED = {
    HandoffPolicy.DRAIN: _LYING,
    HandoffPolicy.SINGLE_WRITER: _LYING,
    HandoffPolicy.PREEMPT_ABORT: (
        "It relies on the array's confirmation as well: that what it calls aborted is never applied. No "
        "fault has a storage confirm an abort that it did not carry out, so no run shows that."
    ),
    HandoffPolicy.EPOCH: (
        "That a storage checks the generation on arrival only, and not at the media, is preempt in effect: "
        "see there."
    ),
}


def assumptions_of(policy: str) -> tuple[Assumption, ...]:
    """Return what the policy relies on; nothing for one that is unknown."""
    return tuple(assumption for assumption in ASSUMPTIONS if assumption.policy == policy)


def untried_of(policy: str) -> str:
    """Return what the policy relies on beyond that and no run takes away, empty if there is nothing."""
    return next((text for name, text in _UNTRIED.items() if name == policy), "")


def run_file(name: str) -> Path:
    """Return the specification's file; raises UserError naming the choices."""
    names = tuple(assumption.run for assumption in ASSUMPTIONS)
    if name not in names:
        raise UserError(unknown_name("run", name, names))
    return _HERE / f"{name}.toml"


def run_spec(name: str, seed: int = 0) -> Spec:
    """Return the specification; raises UserError as run_file does."""
    return load_spec(run_file(name), {"seed": seed})
