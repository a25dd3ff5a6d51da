"""Begins a package of one's own: a fault or a workload that works, with its tests, to be changed."""

from enum import StrEnum


class Kind(StrEnum):
    """What a package can be begun for, as the command line calls it."""

    NEMESIS = "nemesis"
    WORKLOAD = "workload"
