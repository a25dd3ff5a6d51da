"""What the controller tells a person while a test runs, as a Protocol with a view that says nothing.

The controller talks to this alone, so that it runs the same under a terminal, in a campaign's
worker and in a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jepsen_blk.history.events import Event


class View(Protocol):
    """A live view of one test. No method raises, blocks for long, or changes the test."""

    def start(self, name: str, steps: Sequence[str]) -> None:
        """A test begins; `steps` are the names of its phases, in order."""

    def phase(self, text: str) -> None:
        """The test enters a phase."""

    def event(self, event: Event) -> None:
        """Something happened: a fault, a migration, a hold."""

    def operations(self, completed: int) -> None:
        """So many operations have completed since the start."""

    def checked(self, operations: int, anomaly: str) -> None:
        """So many operations have been checked; `anomaly` names the first that was seen, if one was."""

    def unchecked(self, operations: int, why: str) -> None:
        """So many operations have been checked, and because of `why` no more will be while the test runs."""

    def finish(self, verdict: str) -> None:
        """The test has its verdict."""

    def close(self) -> None:
        """Give the terminal back; safe to call twice, or without `start`."""


class NullView:
    """A view that shows nothing."""

    def start(self, name: str, steps: Sequence[str]) -> None:
        """Show nothing."""

    def phase(self, text: str) -> None:
        """Show nothing."""

    def event(self, event: Event) -> None:
        """Show nothing."""

    def operations(self, completed: int) -> None:
        """Show nothing."""

    def checked(self, operations: int, anomaly: str) -> None:
        """Show nothing."""

    def unchecked(self, operations: int, why: str) -> None:
        """Show nothing."""

    def finish(self, verdict: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""
