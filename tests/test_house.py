"""The house rules that no linter knows: who may import whom, and how large a room may grow."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("jepsen_blk", "nemesis", "workloads")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# A room and what it may import beside itself. A row says what the room must be able to do without.
BASE = ("jepsen_blk.errors", "jepsen_blk.stamp", "jepsen_blk.clock")
ROOMS = {
    "jepsen_blk.stamp": (),
    "jepsen_blk.errors": (),
    "jepsen_blk.clock": (),
    "jepsen_blk.virtual_time": ("jepsen_blk.clock",),
    "jepsen_blk.storage": BASE,
    "jepsen_blk.history": BASE,
    "jepsen_blk.deadline": (),
    "jepsen_blk.plugins": ("jepsen_blk.errors", "jepsen_blk.mistakes"),
    "jepsen_blk.mistakes": (),
    "jepsen_blk.table": (),
    "jepsen_blk.cue_spec": ("jepsen_blk.table",),
    "jepsen_blk.schedule_spec": ("jepsen_blk.cue_spec", "jepsen_blk.table"),
    "jepsen_blk.workload_spec": ("jepsen_blk.plugins", "jepsen_blk.table"),
    "jepsen_blk.spec": (
        *(*BASE, "jepsen_blk.deadline", "jepsen_blk.storage.conflict"),
        *("jepsen_blk.schedule_spec", "jepsen_blk.workload_spec", "jepsen_blk.mistakes"),
        *("jepsen_blk.cue_spec", "jepsen_blk.table"),
    ),
    "jepsen_blk.expect": ("jepsen_blk.spec",),
    "jepsen_blk.checker": (*BASE, "jepsen_blk.deadline", "jepsen_blk.history", "jepsen_blk.storage"),
    "jepsen_blk.lab": (
        *(*BASE, "jepsen_blk", "jepsen_blk.spec", "jepsen_blk.storage", "jepsen_blk.history"),
        *("workloads", "jepsen_blk.virtual_time"),
    ),
    # The simulator runs where there is no QEMU, and with the agent that the guest has.
    "jepsen_blk.lab.sim": (
        *(*BASE, "jepsen_blk.spec", "jepsen_blk.storage", "workloads.agent"),
        *("jepsen_blk.lab.abilities", "jepsen_blk.lab.paths", "jepsen_blk.lab.seams", "jepsen_blk.lab.echo"),
    ),
    "jepsen_blk.lab.processes": ("jepsen_blk.errors", "jepsen_blk.lab.seams"),
    "jepsen_blk.lab.deeds": ("jepsen_blk.lab.processes", "jepsen_blk.lab.seams"),
    "jepsen_blk.lab.ledger": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.lab.deeds", "jepsen_blk.lab.seams"),
    ),
    "jepsen_blk.lab.heal": (
        *("jepsen_blk.errors", "jepsen_blk.lab.deeds", "jepsen_blk.lab.ledger", "jepsen_blk.lab.seams"),
    ),
    "jepsen_blk.lab.ssh": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.lab.seams", "jepsen_blk.lab.processes"),
        *("jepsen_blk.lab.deeds", "jepsen_blk.lab.ledger", "jepsen_blk.lab.heal"),
    ),
    "jepsen_blk.handoff": (*BASE, "jepsen_blk.spec", "jepsen_blk.lab.seams"),
    "workloads": (
        *(*BASE, "jepsen_blk.spec", "jepsen_blk.history", "jepsen_blk.lab.seams"),
        *("jepsen_blk.plugins", "jepsen_blk.workload_spec"),
    ),
    "workloads.agent": ("jepsen_blk.stamp",),
    "nemesis": (
        *("jepsen_blk.errors", "jepsen_blk.handoff", "jepsen_blk.spec", "jepsen_blk.history"),
        *("jepsen_blk.lab.paths", "jepsen_blk.lab.seams", "jepsen_blk.schedule_spec", "jepsen_blk.plugins"),
        "jepsen_blk.lab.abilities",
        *("jepsen_blk.mistakes", "jepsen_blk.stamp", "jepsen_blk.cue_spec", "jepsen_blk.clock"),
    ),
    "nemesis.testing": (
        *("jepsen_blk.errors", "jepsen_blk.history", "jepsen_blk.lab.paths", "jepsen_blk.lab.seams"),
        *("jepsen_blk.spec", "jepsen_blk.stamp", "jepsen_blk.virtual_time", "nemesis"),
    ),
    "jepsen_blk.default_lab": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.spec", "jepsen_blk.doctor"),
    ),
    "jepsen_blk.scaffold": (
        *("jepsen_blk", "jepsen_blk.errors", "jepsen_blk.plugins", "jepsen_blk.workload_spec"),
        "nemesis.catalogue",
    ),
    "jepsen_blk.lint": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.spec", "jepsen_blk.scenarios"),
        "jepsen_blk.storage.conflict",
    ),
    "jepsen_blk.explore": (
        *(*BASE, "jepsen_blk.spec", "jepsen_blk.mistakes", "jepsen_blk.deadline", "jepsen_blk.history"),
        *("jepsen_blk.checker", "jepsen_blk.storage", "jepsen_blk.handoff", "jepsen_blk.lab.sim"),
        *("jepsen_blk.lab.seams", "jepsen_blk.lab.paths"),
    ),
    "jepsen_blk.explore.replayed": (
        *("jepsen_blk.errors", "jepsen_blk.spec", "jepsen_blk.expect", "jepsen_blk.controller"),
        "jepsen_blk.lab.choose",
    ),
    "jepsen_blk.shrink.ddmin": (),
    "jepsen_blk.shrink.candidate": ("jepsen_blk.spec", "nemesis"),
    "jepsen_blk.shrink.reductions": (
        *("jepsen_blk.errors", "jepsen_blk.shrink.candidate", "jepsen_blk.shrink.ddmin", "nemesis"),
    ),
    "jepsen_blk.shrink.driver": (
        *("jepsen_blk.errors", "jepsen_blk.spec", "jepsen_blk.shrink.reductions"),
        *("jepsen_blk.shrink.candidate", "jepsen_blk.shrink.record", "jepsen_blk.shrink.budget"),
    ),
    "jepsen_blk.campaign.rows": ("jepsen_blk.spec",),
    "jepsen_blk.campaign.summary": ("jepsen_blk.campaign.rows",),
    "jepsen_blk.campaign.statistics": ("jepsen_blk.campaign.summary",),
    "jepsen_blk.campaign.sketch": (),
    "jepsen_blk.campaign.matrix": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.schedule_spec", "jepsen_blk.spec"),
        *("jepsen_blk.storage.conflict", "jepsen_blk.table", "nemesis.catalogue"),
    ),
    "jepsen_blk.campaign.rowfile": ("jepsen_blk.errors", "jepsen_blk.campaign.rows"),
    "jepsen_blk.report": (
        *(
            *BASE,
            "jepsen_blk.deadline",
            "jepsen_blk.spec",
            "jepsen_blk.history",
            "jepsen_blk.checker",
            "jepsen_blk.storage",
        ),
        *("jepsen_blk.judge", "jepsen_blk.lab.seams", "jepsen_blk.plugins", "nemesis.plan"),
        *("jepsen_blk.cue_spec", "jepsen_blk.lint"),
        *("jepsen_blk.campaign.rows", "jepsen_blk.campaign.summary"),
    ),
    "jepsen_blk.assumptions": ("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.spec"),
    "jepsen_blk.report.comparison": (
        *("jepsen_blk.errors", "jepsen_blk.mistakes", "jepsen_blk.table", "jepsen_blk.spec"),
        *("jepsen_blk.assumptions", "jepsen_blk.campaign.rows", "jepsen_blk.campaign.summary"),
        *("jepsen_blk.report.html", "jepsen_blk.report.picture", "jepsen_blk.storage.conflict"),
    ),
}
# What runs inside the guest, and inside the storage server: under a Python without third-party packages.
BARE_ROOMS = ("workloads.agent", "jepsen_blk.storage.target")
SERVER_MODULE = "nbdkit"


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Every imported module, and for `from a import b` also a.b where that is a module."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if path_of(name)]
            found += modules if modules else [str(node.module)]
    return tuple(found)


def path_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def allowed(module: str, names: tuple[str, ...]) -> bool:
    """A bare package name in a row stands for its version, not for all that is in it."""
    return any(module == name if name == "jepsen_blk" else within(module, name) for name in names)


def reached_from(room: str) -> Iterator[tuple[Path, str]]:
    """Every import of the room's modules and of the house's modules that they load."""
    todo = [path for path in FILES if within(name_of(path), room)]
    seen = set(todo)
    while todo:
        path = todo.pop()
        for module in imports_of(path):
            yield path, module
            found = path_of(module)
            if found and found not in seen:
                seen.add(found)
                todo.append(found)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str):
    inner = [other for other in ROOMS if other != room and within(other, room)]
    for path in FILES:
        name = name_of(path)
        if not within(name, room) or any(within(name, other) for other in inner):
            continue
        for module in imports_of(path):
            ours = module.split(".")[0] in PACKAGES
            assert not ours or within(module, room) or allowed(module, ROOMS[room]), (
                f"{path}: imports {module}"
            )


def test_nothing_imports_the_command_line():
    for path in FILES:
        if path.name != "__main__.py" and not within(name_of(path), "jepsen_blk.cli"):
            assert not any(within(name, "jepsen_blk.cli") for name in imports_of(path)), path


def test_only_what_runs_tests_imports_the_controller():
    above = (
        "jepsen_blk.campaign.cells",
        "jepsen_blk.campaign.worker",
        "jepsen_blk.cli.run",
        "jepsen_blk.demo",
        "jepsen_blk.explore.replayed",
        "jepsen_blk.scenarios.regression",
        "jepsen_blk.shrink.session",
    )
    for path in FILES:
        if "jepsen_blk.controller" in imports_of(path):
            assert any(within(name_of(path), room) for room in above), path


@pytest.mark.parametrize("room", BARE_ROOMS)
def test_what_runs_in_guest_and_storage_server_needs_no_third_party_package(room: str):
    reached = list(reached_from(room))
    assert reached
    for path, module in reached:
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or top in PACKAGES or top == SERVER_MODULE, (
            f"{path}: imports {module}"
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_keeps_the_rules_of_the_house(path: Path):
    text = path.read_text()
    tree = tree_of(path)
    assert not text or ast.get_docstring(tree), "no docstring that says why it exists"
    assert len(text.splitlines()) <= MOST_LINES
    assert path.stem not in VAGUE_NAMES
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert in the package"
        if isinstance(node, ast.keyword):
            assert node.arg != "shell", f"line {node.value.lineno}: a shell"


def test_what_is_for_tests_is_used_by_tests_alone():
    rooms = ("nemesis.testing", "workloads.testing")
    for path in FILES:
        if not any(within(name_of(path), room) for room in rooms):
            assert not any(within(module, room) for module in imports_of(path) for room in rooms), path


def test_all_that_is_no_module_is_part_of_the_package_that_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]
    packed = {
        path
        for room, patterns in globs.items()
        for pattern in patterns
        for path in (ROOT / room.replace(".", "/")).glob(pattern)
    }
    data = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert data == {path for path in packed if path.is_file()}
