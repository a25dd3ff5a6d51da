"""The file that a shrinking ends with: the smallest specification, and above it what is known of it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from jepsen_blk import __version__
from jepsen_blk.errors import UserError
from jepsen_blk.spec import Spec, dump_brief_spec

SHRUNK = "shrunk.toml"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What a shrinking has come to."""

    run_dir: Path
    spec: Spec
    kinds: tuple[str, ...]
    faults: int
    planned: int
    runs: int
    failed: int
    confirmed: int
    """How often the smallest was run to confirm it; `failed` is how often it failed then."""
    ended: str
    """Why it ended."""

    @property
    def how_often(self) -> str:
        """How often it fails."""
        return f"{self.failed} of {self.confirmed} runs" if self.confirmed else "not confirmed"

    @property
    def headline(self) -> str:
        """What has become of the run, in a line."""
        fails = f"fails {self.how_often}" if self.confirmed else "how often it fails is not confirmed"
        return f"faults: {self.faults} of the {self.planned} planned; by {', '.join(self.kinds)}; {fails}"

    @property
    def found(self) -> str:
        """After how much it was found, and why no more was done."""
        return f"found in {'1 run' if self.runs == 1 else f'{self.runs} runs'}; {self.ended}"


def shrunk_toml(shrunk: Shrunk, out: Path) -> str:
    """Return the text of the file `out`: a specification for `jepsen-blk test`, with comments above it."""
    told = {
        "run it": f"jepsen-blk test {shlex.quote(str(out))}",
        "fails by": ", ".join(shrunk.kinds),
        "how often": shrunk.how_often,
        "faults": f"{shrunk.faults} of the {shrunk.planned} that the run had planned",
        "effort": shrunk.found,
        "made by": f"jepsen-blk {__version__}",
    }
    lines = [f"The smallest test found that fails as the run {shrunk.run_dir} did.", ""]
    lines += [f"{key:<9}  {value}" for key, value in told.items()]
    head = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return f"{head}\n{dump_brief_spec(shrunk.spec)}"


def write_shrunk(shrunk: Shrunk, out: Path) -> None:
    """Write the file, in one step if there was one already; raises UserError if it cannot be written."""
    scratch = out.with_name(f".{out.name}.new")
    try:
        scratch.write_text(shrunk_toml(shrunk, out), encoding="utf-8")
        os.replace(scratch, out)
    except OSError as error:
        raise UserError(f"{out}: cannot write the specification: {error.strerror}") from error


def require_writable(out: Path) -> None:
    """Raise UserError if the file could not be written, before hours were spent for it."""
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: cannot write a specification there; name another file with --out")
