"""The part of docs/anomalies.md that is made, not written: each kind's definition, and its example's picture.

`python -m jepsen_blk.report.kinds_page docs` writes it anew; a test sees that it was. Definition and
example are those of checker/kinds.py, and the checker judges the example, so the page cannot drift from
the code.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jepsen_blk.checker.kinds import KINDS, SYMBOLS, Kind
from jepsen_blk.report.explain import example_scene
from jepsen_blk.report.picture_file import svg_file
from jepsen_blk.report.scene_picture import draw_scene

BEGIN, END = "<!-- kinds: made by `make pictures` -->", "<!-- end of kinds -->"


def picture_of(kind: Kind) -> str:
    """Return the picture of the kind's example as the text of an SVG file."""
    picture = draw_scene(example_scene(kind), f"{kind.name}: {kind.title}", kind.meaning)
    return svg_file([picture], kind.name, kind.meaning)


def section() -> str:
    """Return the definitions in Markdown, with the symbols they are written in."""
    symbols = [f"| {symbol} | {meaning} |" for symbol, meaning in SYMBOLS]
    parts = ["| symbol | meaning |\n|---|---|\n" + "\n".join(symbols)]
    for kind in KINDS.values():
        parts.append(
            f"### {kind.name}\n\n{kind.title[0].upper()}{kind.title[1:]}. {kind.meaning}\n\n"
            f"*Exactly:* {kind.definition}. {kind.evidence}\n\n![{kind.title}](images/kinds/{kind.name}.svg)"
        )
    return "\n\n".join(parts)


def write(docs: Path) -> None:
    """Write the pictures into docs/images/kinds and the section into docs/anomalies.md."""
    folder = docs / "images" / "kinds"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS.values():
        (folder / f"{kind.name}.svg").write_text(picture_of(kind), encoding="utf-8")
    page = docs / "anomalies.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n\n{section()}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
