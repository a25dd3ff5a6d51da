"""What a workload draws, without a guest: for the tests of this project and of other packages.

    drawn = draw(MyWorkload(blocks=64), 1000)

A workload of a package is taken as it is sent into the guest, so what would be refused there, or would fail
at once, is refused here too.
"""

from __future__ import annotations

from _random import Random
from typing import NamedTuple

from jepsen_blk.workload_spec import WorkloadSpec
from workloads.agent.operations import KIND_BITS, Source
from workloads.agent.register import Register
from workloads.agent.sent import Sent, SourceError, load
from workloads.source import sent_workload


class Drawn(NamedTuple):
    """An operation as it is drawn: a kind of workloads.agent.operations, and its block."""

    kind: int
    block: int


def draw(spec: WorkloadSpec, count: int, seed: int = 1) -> list[Drawn]:
    """Return the first `count` operations of a seed, in the order in which they are issued.

    Raises PluginError for a source that cannot be sent, SourceError for one that does in the guest what it
    must not.
    """
    source = _source(spec, seed)
    operations: list[int] = []
    while len(operations) < count:
        operations += reversed(source.batch())
        if isinstance(source, Sent) and source.failure:
            raise SourceError(source.failure)
    return [Drawn(operation % (1 << KIND_BITS), operation >> KIND_BITS) for operation in operations[:count]]


def _source(spec: WorkloadSpec, seed: int) -> Source:
    options = spec.model_dump(mode="json")
    sent = sent_workload(spec)
    if sent is None:
        return Register(Random(seed), options)
    return Sent(load(sent.name, sent.source), Random(seed), options)
