"""A picture is a list of plain shapes; one template turns any of them into accessible SVG.

Shapes carry CSS classes, never colours: the page's style sheet gives them their light, dark and
printed looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Rect:
    """A box; `hint` is shown when pointed at."""

    x: float
    y: float
    width: float
    height: float
    look: str
    hint: str = ""
    shape: str = "rect"


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line; a look that contains `arrow` ends in an arrowhead."""

    x1: float
    y1: float
    x2: float
    y2: float
    look: str
    hint: str = ""
    shape: str = "line"


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    look: str = "label"
    anchor: str = "start"
    shape: str = "label"


@dataclass(frozen=True, slots=True)
class Badge:
    """A numbered circle, the picture's reference to a step of the story."""

    x: float
    y: float
    number: int
    look: str = "badge"
    shape: str = "badge"


@dataclass(frozen=True, slots=True)
class Curve:
    """A path in SVG's own notation, made of numbers only."""

    d: str
    look: str
    hint: str = ""
    shape: str = "curve"


Shape = Rect | Line | Label | Badge | Curve


@dataclass(slots=True)
class Picture:
    """Shapes in drawing order on a canvas of `width` x `height` units."""

    name: str
    width: float
    height: float
    title: str
    description: str
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw more on top."""
        self.shapes.extend(shapes)


@cache
def templates() -> Environment:
    """Return the template environment; every value is escaped."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_picture(picture: Picture) -> Markup:
    """Return the picture as an SVG element, all text escaped."""
    return Markup(templates().get_template("picture.svg.j2").render(picture=picture))  # noqa: S704 - autoescaped


def text_width(text: str, size: float = 12.5) -> float:
    """Estimate the width of a label: SVG cannot ask, and a report is made where no browser is."""
    return len(text) * size * 0.58
