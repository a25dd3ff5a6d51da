"""A picture as a file of its own: SVG that any viewer shows alike, and PNG made from it without a browser.

A page gives its pictures their looks by CSS variables and follows the reader's light or dark mode; a
file meets viewers that know neither, so it carries its own style sheet with plain colours, and a ground
of its own that is readable on a dark page too.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from jepsen_blk.errors import UserError
from jepsen_blk.report.picture import Picture, templates

_MARGIN = 16
_PNG_ZOOM = 2


def svg_file(pictures: Sequence[Picture], title: str, description: str) -> str:
    """Return the pictures, one below the other, as the text of an SVG file; all text is escaped."""
    placed = []
    top = float(_MARGIN)
    for picture in pictures:
        placed.append((picture, top))
        top += picture.height + _MARGIN
    loader = templates()
    style = (loader.loader.get_source(loader, "picture.css")[0]) if loader.loader else ""
    return loader.get_template("picture_file.svg.j2").render(
        title=title,
        description=description,
        style=Markup(style),  # noqa: S704 - our own file
        placed=placed,
        margin=_MARGIN,
        width=max((picture.width for picture in pictures), default=0) + 2 * _MARGIN,
        height=top,
    )


def png_file(svg: str) -> bytes:
    """Return the SVG as a PNG of twice its size; raises UserError where what draws it is not installed."""
    try:
        import resvg_py
    except ImportError as error:
        raise UserError(
            "PNG needs resvg-py, which is not installed; pip install 'jepsen-blk[png]', or write .svg"
        ) from error
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=_PNG_ZOOM))
