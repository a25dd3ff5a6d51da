"""The command line: a module for the verbs of one matter, one function a verb.

No logic is in here, and what is heavy is imported by the verb that needs it, so that --help and a mistyped
option answer at once.
"""

from jepsen_blk.cli.app import main

__all__ = ["main"]
