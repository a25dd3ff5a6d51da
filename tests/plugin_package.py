"""A package beside the tester, as pip would have installed it: modules and a dist-info on the path."""

import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path,
    package: str,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    version: str = "1.2",
) -> Path:
    """Put a package with these modules and entry points by group into a folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    for name, source in modules.items():
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    register(folder, package, version, entry_points)
    return folder


def install_written(folder: Path) -> Path:
    """Register a package that lies in a folder as its pyproject.toml says, and return the folder."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    register(folder, project["name"], project["version"], project["entry-points"])
    return folder


def register(folder: Path, package: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write what pip notes of a package that it has installed."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
