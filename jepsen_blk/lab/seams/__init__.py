"""The seams of a lab: what a nemesis, a handoff policy and the controller may know of it.

Nothing above this module names a hypervisor, a command or a namespace; a fault written against
these protocols is one piece of code on every lab. Every call is bounded in time and raises
`LabError` when the bound is passed or the lab refuses.
"""

from jepsen_blk.lab.seams.guest import Guest, GuestStream, Observer
from jepsen_blk.lab.seams.hypervisor import GuestState, Hypervisor, Migration, MigrationPhase, Progress
from jepsen_blk.lab.seams.lab import Lab, PreparedLab
from jepsen_blk.lab.seams.nodes import Completed, Network, Node, Process
from jepsen_blk.lab.seams.storage import Storage, StorageServers
from jepsen_blk.storage.holds import InFlight
from jepsen_blk.storage.misbehaviour import Misbehaved, Misbehaviour

__all__ = [
    "Completed",
    "Guest",
    "GuestState",
    "GuestStream",
    "Hypervisor",
    "InFlight",
    "Lab",
    "Migration",
    "MigrationPhase",
    "Misbehaved",
    "Misbehaviour",
    "Network",
    "Node",
    "Observer",
    "PreparedLab",
    "Process",
    "Progress",
    "Storage",
    "StorageServers",
]
