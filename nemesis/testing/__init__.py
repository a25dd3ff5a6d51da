"""A lab to try faults on without QEMU, for the tests of this project and of other packages.

    life = live(MyFault())                                  # proven and healed, in virtual time
    life = live(MyFault(), without=["network.cut"])         # the lab only claims to have cut: not proven

`lab.ScriptedLab` answers at every seam as a lab would that does what it is told, whatever time that takes
there. It stores nothing and no history comes of it, so it shows that a fault proves what it says and that it
heals; what the fault does to data only a real guest shows, or the simulator's (`--lab sim`).
"""

from jepsen_blk import virtual_time

__all__ = ["virtual_time"]
