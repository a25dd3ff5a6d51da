"""`jepsen-blk new`: what it writes works as it is, is found, has tests that can fail; what it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run
from plugin_package import install, install_written

from jepsen_blk.cli import main
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import F
from nemesis.catalogue import CATALOGUE, make_fault
from nemesis.testing.life import live

ROOT = Path(__file__).parent.parent
KINDS = ("nemesis", "workload")
LONGEST = "a-name-as-long-as-a-name-may-be-here-ok1"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Write:
    """Writes a package and returns its folder; what it said is thrown away."""

    def new(kind: str, name: str) -> Path:
        folder = tmp_path / f"{kind}-{name}"
        assert main(["new", kind, name, "--into", str(folder)]) == 0
        capsys.readouterr()
        return folder

    return new


def tool(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool as its user would, with jepsen-blk installed."""
    return subprocess.run(
        [sys.executable, "-m", name, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def own_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    return tool("pytest", "-q", "-p", "no:cacheprovider", cwd=folder)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_tests_at_once(kind: str, write: Write) -> None:
    done = own_tests(write(kind, "broken-link"))
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9] passed", done.stdout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["q", "stage", "workload", LONGEST])
def test_what_is_written_is_linted_and_formatted_whatever_its_name(
    kind: str, name: str, write: Write
) -> None:
    folder = write(kind, name)
    for check in (["check"], ["format", "--check", "--diff"]):
        done = tool("ruff", *check, "--no-cache", ".", cwd=folder)
        assert done.returncode == 0, done.stdout
    assert "$" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def test_what_is_written_is_typed_strictly(write: Write, tmp_path: Path) -> None:
    folders = (write("nemesis", "broken-link"), write("workload", "log-tail"))
    parts = [path for folder in folders for path in folder.iterdir() if path.is_dir()]
    assert len(parts) == 4
    done = tool("mypy", "--strict", "--cache-dir", tmp_path / "cache", *parts, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert tomllib.loads((folders[0] / "pyproject.toml").read_text())["tool"]["mypy"]["strict"]


@pytest.mark.parametrize("package", ["jepsen_blk", "nemesis", "workloads"])
def test_what_others_build_on_tells_their_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


CUT = "await stage.lab.network.cut(self._node, Path_.STORAGE)"
SEE = "if await stage.lab.network.reachable(self._node, Path_.STORAGE):"


@pytest.mark.parametrize(
    ("kind", "file", "right", "wrong"),
    [
        ("nemesis", "__init__.py", CUT, "pass"),
        ("nemesis", "__init__.py", SEE, f'return "seen"\n        {SEE}'),
        ("workload", "agent.py", "BURST", "WRITE"),
    ],
    ids=["injects-nothing", "proves-anything", "draws-otherwise"],
)
def test_its_tests_fail_where_it_is_broken(
    kind: str, file: str, right: str, wrong: str, write: Write
) -> None:
    folder = write(kind, "broken-link")
    module = folder / "broken_link" / file
    source = module.read_text()
    assert right in source
    module.write_text(source.replace(right, wrong))
    done = own_tests(folder)
    assert done.returncode == 1, done.stdout
    assert " failed" in done.stdout


def test_the_fault_lives_by_the_name_of_its_entry_point_and_not_where_nothing_was_cut(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CATALOGUE, "_loaded", {})
    monkeypatch.syspath_prepend(install_written(write("nemesis", "scaffolded")))
    life = live(make_fault("scaffolded", {"duration_s": 10}))
    assert (life.proven, life.healed, life.why) == (True, True, "")
    assert [event.phase for event in life.events if event.source == "network"] == ["cut", "healed"]
    life = live(make_fault("scaffolded", {}), without=["network.cut"])
    assert (life.proven, life.healed) == (False, True)


@pytest.mark.parametrize(
    ("kind", "verb", "option"),
    [("nemesis", "nemeses", "duration_s"), ("workload", "workloads", "entries")],
)
def test_what_is_written_is_listed_once_it_is_installed(
    kind: str, verb: str, option: str, write: Write, tmp_path: Path
) -> None:
    folder = install_written(write(kind, "broken-link"))
    done = run(verb, "broken-link", "--json", cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{folder}"})
    (listed,) = json.loads(done.stdout)["usable"]
    assert listed["package"] == "jepsen-blk-broken-link 0.1.0"
    assert listed["about"]
    assert option in [option["name"] for option in listed["options"]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_and_what_comes_next_is_said(kind: str, tmp_path: Path) -> None:
    done = run("new", kind, "broken-link", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "broken-link"
    said, _, following = done.stdout.partition("next:")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(re.findall(r"^    (\S+)  ", said, re.MULTILINE)) == files - {"broken_link/py.typed"}
    commands = [line.partition("  # ")[0] for line in following.split("\n") if line]
    install_it, test_it, run_it = (command.split()[1:] for command in commands)
    assert install_it == ["-m", "pip", "install", "-e", "'broken-link[dev]'"]
    assert test_it == ["-m", "pytest", "broken-link"]
    wanted = ["--nemesis", "broken-link"] if kind == "nemesis" else ["broken-link/spec.toml"]
    assert run_it == ["test", *wanted]


HIDES = "its module would hide another one called"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "nemesis pause",
            "'pause' is a built-in fault, .* used; give another name, such as 'my-pause'",
        ),
        ("workload register", "'register' is a built-in workload"),
        (
            "nemesis tremor",
            "a fault of a package .*, which `jepsen-blk nemeses tremor` names; give another",
        ),
        ("nemesis BrokenLink_2", "'BrokenLink_2' cannot be the name of a fault: .*; try 'broken-link-2'"),
        ("workload 2nd", "'2nd' cannot be the name of a workload: .*; try 'nd'"),
        ("workload a--b", "try 'a-b'"),
        ("workload !", "try 'power-cut'"),
        (f"nemesis {LONGEST}2", "40 characters at most"),
        ("nemesis lambda", "'lambda' is a keyword of Python.*such as 'my-lambda'"),
        ("nemesis asyncio", f"'asyncio': {HIDES} asyncio; give another name, such as 'my-asyncio'"),
        ("nemesis jepsen-blk", f"{HIDES} jepsen_blk"),
        ("nemesis tests", f"{HIDES} tests"),
        ("storage x", "'storage' is not one of 'nemesis', 'workload'"),
        ("nemesis", "Missing argument 'NAME'"),
        ("nemesis x --into full", "full: there is something in it already; name another folder with --into"),
        ("nemesis x --into full/file", "full/file: it is no folder; name another folder with --into"),
        ("nemesis x --into full/file/x", "full/file/x: cannot be written: Not a directory; name another"),
    ],
)
def test_a_refusal_names_the_mistake_and_the_remedy_and_writes_nothing(
    arguments: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    other = install(tmp_path / "acme", "acme", {"jepsen_blk.nemeses": {"tremor": "acme_new:Tremor"}}, {})
    monkeypatch.syspath_prepend(other)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["new", *arguments.split()]) == 254
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert re.search(said, shown.err)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "full/file").read_text() == "mine"


def test_a_folder_that_is_empty_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "nemesis", "broken-link", "--into", str(tmp_path)]) == 0
    assert (tmp_path / "broken_link/__init__.py").is_file()
    assert f"is in {tmp_path}:" in capsys.readouterr().out


@pytest.mark.lab
def test_a_written_fault_under_a_written_workload_is_proven_and_healed_on_real_guests(
    write: Write, tmp_path: Path
) -> None:
    folders = [
        install_written(write(kind, name)) for kind, name in zip(KINDS, ("cut-off", "log"), strict=True)
    ]
    spec = tmp_path / "spec.toml"
    spec.write_text('[workload]\nname = "log"\n\n[[nemesis]]\nfault = "cut-off"\n')
    path = ":".join(map(str, (ROOT, *folders)))
    done = run("test", str(spec), "--store", "store", cwd=tmp_path, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout
    results = json.loads((tmp_path / "store/latest/results.json").read_text())
    assert (results["verdict"], results["reasons"]) == ("pass", [])
    (fault,) = results["faults"]
    assert fault | {"name": "cut-off", "proven": True, "healed": True, "why": ""} == fault
    history = read_journal(tmp_path / "store/latest/history.blk").history
    written = sorted(set(history.block[history.f == F.WRITE].tolist()))
    assert written == list(range(len(written)))
    assert len(written) > 9
