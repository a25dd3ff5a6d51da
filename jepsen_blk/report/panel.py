"""What the view of something long stands on: dated lines that stay, and on a TTY a panel drawn below them."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

_REFRESH_PER_S = 8


class Panel:
    """The lines and the panel of one view; `render` returns the panel as it is now.

    A line begins with the time since `begin` by `now_s`, a clock in seconds.
    """

    def __init__(
        self, console: Console, render: Callable[[], RenderableType], now_s: Callable[[], float]
    ) -> None:
        self._console = console
        self._render = render
        self._now_s = now_s
        self._began_s = now_s()
        self._live: Live | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether it is redrawn; else the lines have to say everything."""
        return self._live is not None

    @property
    def elapsed_s(self) -> float:
        """The time since it was begun."""
        return self._now_s() - self._began_s

    def begin(self) -> None:
        """Count the time from now."""
        self._began_s = self._now_s()

    def open(self) -> None:
        """Draw it, if this is a TTY."""
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
            )
            self._live.start()

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def line(self, text: Text) -> None:
        """Print a line above it."""
        self._console.print(self.dated(text), soft_wrap=True)

    def dated(self, text: Text) -> Text:
        """Return a line as it is printed now."""
        return Text.assemble((f"{self.elapsed_s:7.2f} s  ", "dim"), text)
