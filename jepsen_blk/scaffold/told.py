"""What is said when a package was written: its files, and the three commands that come next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from jepsen_blk.scaffold import Kind
from jepsen_blk.scaffold.naming import Names
from jepsen_blk.scaffold.package import Written


def lines(names: Names, folder: Path, written: Sequence[Written]) -> list[str]:
    """Return the lines for the terminal."""
    told = [file for file in written if file.about]
    width = max(len(file.path) for file in told)
    commands = _next(names, folder)
    longest = max(map(len, commands))
    return [
        f"the {names.what} {names.name}, an example that works, is in {folder}:",
        "",
        *(f"    {file.path:{width}}  {file.about}" for file in told),
        "",
        "next:",
        "",
        *(f"    {command:{longest}}  # {why}" for command, why in commands.items()),
    ]


def _next(names: Names, folder: Path) -> dict[str, str]:
    """Return the commands, as they can be typed where the user is, and why each."""
    place = shlex.quote(str(folder))
    python, program = _typed(Path(sys.executable)), _typed(Path(sys.executable).with_name("jepsen-blk"))
    test = f"--nemesis {names.name}" if names.kind is Kind.NEMESIS else shlex.quote(str(folder / "spec.toml"))
    return {
        f"{python} -m pip install -e {shlex.quote(f'{folder}[dev]')}": "jepsen-blk finds it",
        f"{python} -m pytest {place}": "passes, without QEMU",
        f"{program} test {test}": "on real guests",
    }


def _typed(program: Path) -> str:
    """Return a program as briefly as it can be typed here."""
    found = shutil.which(program.name)
    if found and Path(found).absolute() == program.absolute():
        return program.name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
