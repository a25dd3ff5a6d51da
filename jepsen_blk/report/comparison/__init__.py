"""The report of a comparison: which policy is safe on which storage, how sure that is, and what it costs.

A manager reads the claims and one figure; an engineer goes from a cell of the figure to the run that
failed and to the command that repeats it.
"""

from jepsen_blk.report.comparison.page import write_report

__all__ = ["write_report"]
