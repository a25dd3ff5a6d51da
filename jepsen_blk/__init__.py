"""jepsen-blk: does an acknowledged write survive a virtual machine that moves?

This package imports nothing at its top: the storage target and the guest's agent import
`jepsen_blk.stamp` from it under a Python that has no third-party package.
"""

__version__ = "0.1.0"
