"""The choice of until when an indeterminate write may land, apart from the specification.

The checker needs it without the rest: a history is to be judged without loading what validates a test.
"""

from __future__ import annotations

from enum import StrEnum


class Deadline(StrEnum):
    """Until when an indeterminate write may still take effect."""

    NEVER = "never"
    FENCE = "fence"
    ERROR = "error"
