"""`jepsen-blk nemeses` and `workloads`: everything that can be asked for, for people and for programs."""

import json
import re
from pathlib import Path

import pytest
from command_line import only_line, run
from plugin_package import install

from jepsen_blk.spec import StorageSpec
from nemesis.catalogue import FAULTS, make_fault
from nemesis.demands import Impairing
from nemesis.storage_fault import NeedsStorage

TREMOR = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar
from pydantic import ConfigDict, Field

@dataclass
class Tremor:
    """Shake the rack
    with a hammer.

    Gently.
    """

    name: ClassVar[str] = "tremor"
    needs: ClassVar[str] = "a hammer"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    rack: str
    blows: Annotated[int, Field(ge=1)] = 3

    async def setup(self, stage): ...
    async def inject(self, stage): ...
    async def prove(self, stage): return "shaken"
    async def dwell(self, stage): ...
    async def heal(self, stage): ...
    async def prove_healed(self, stage): return "still"
'''


@pytest.fixture
def beside(tmp_path: Path) -> dict[str, str]:
    """An environment in which two packages are installed, one of them broken."""
    faults = {"tremor": "acme_listed:Tremor"}
    good = install(tmp_path / "acme", "acme", {"jepsen_blk.nemeses": faults}, {"acme_listed": TREMOR})
    faults = {"rubble": "broken_listed:Rubble"}
    bad = install(tmp_path / "bad", "broken", {"jepsen_blk.nemeses": faults}, {"broken_listed": "import nil"})
    root = Path(__file__).parent.parent
    return {"PYTHONPATH": f"{root}:{good}:{bad}"}


def test_every_fault_is_listed_with_what_it_does_its_options_and_what_it_needs(tmp_path: Path) -> None:
    done = run("nemeses", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^\S+$", done.stdout, re.MULTILINE) == sorted(FAULTS)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert not re.search(r" $", done.stdout, re.MULTILINE)
    assert "_node" not in done.stdout
    (slow_flush,) = (part for part in done.stdout.split("\n\n") if part.startswith("slow-flush"))
    assert slow_flush.splitlines() == [
        "slow-flush",
        "    Add `delay_ms` to every flush, and to every write that is to be durable when",
        "    it is acknowledged.",
        "    duration_s = 1.0  above 0, at most 3600",
        "    delay_ms = 50.0   above 0, at most 5000",
        "    needs storage.kind 'policy' with storage.flush = true",
    ]


def test_a_package_s_fault_is_listed_with_its_package_and_a_broken_one_with_its_problem(
    tmp_path: Path, beside: dict[str, str]
) -> None:
    done = run("nemeses", cwd=tmp_path, env=beside)
    assert done.returncode == 254
    assert done.stdout.split("\n\n")[-2].splitlines() == [
        "tremor  (package acme 1.2)",
        "    Shake the rack with a hammer.",
        "    rack       required; a text",
        "    blows = 3  a whole number, at least 1",
        "    needs a hammer",
    ]
    broken = " ".join(done.stdout.split("\n\n")[-1].split())
    assert broken.startswith(
        "cannot be used fault 'rubble' of package broken 1.2: broken_listed:Rubble cannot"
    )
    assert broken.endswith("mend it, or `pip uninstall broken`")


def test_one_fault_alone_is_not_troubled_by_a_broken_package(tmp_path: Path, beside: dict[str, str]) -> None:
    done = run("nemeses", "tremor", "--json", cwd=tmp_path, env=beside)
    assert done.returncode == 0
    (tremor,) = json.loads(done.stdout)["usable"]
    assert (tremor["package"], tremor["about"]) == ("acme 1.2", "Shake the rack with a hammer.")
    assert [option["name"] for option in tremor["options"]] == ["rack", "blows"]
    assert [option["required"] for option in tremor["options"]] == [True, False]
    assert "package broken 1.2" in only_line(run("nemeses", "rubble", cwd=tmp_path, env=beside), 254)


def test_everything_is_one_object_for_programs_with_what_is_broken_apart(
    tmp_path: Path, beside: dict[str, str]
) -> None:
    done = run("nemeses", "--json", cwd=tmp_path, env=beside)
    listed = json.loads(done.stdout)
    assert done.returncode == 254
    assert [fault["name"] for fault in listed["usable"]] == [*sorted(FAULTS), "tremor"]
    assert [fault["name"] for fault in listed["broken"]] == ["rubble"]


def test_the_workloads_are_listed_alike(tmp_path: Path) -> None:
    done = run("workloads", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("register\n    A seeded mix of reads")
    assert "    queue_depth = 16            a whole number, 1 to 256\n" in done.stdout
    assert "name" not in done.stdout


@pytest.mark.parametrize("verb", ["nemeses", "workloads"])
def test_an_unknown_name_is_named_with_the_choices(tmp_path: Path, verb: str) -> None:
    assert re.search("no .* 'regster'; there are ", only_line(run(verb, "regster", cwd=tmp_path), 254))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_may_be_refused_says_what_it_needs(name: str) -> None:
    fault = make_fault(name, {"steps": [{"do": "quiesce"}]} if name == "choreography" else {})
    assert bool(getattr(fault, "needs", "")) or not isinstance(fault, NeedsStorage | Impairing)
    if isinstance(fault, NeedsStorage):
        kinds = [kind for kind in ("policy", "qemu-storage-daemon") if kind in FAULTS[name].needs]
        for kind in kinds:
            storage = {"flush": True, "backing": "disk"} if kind == "policy" else {}
            fault.check_storage(StorageSpec(kind=kind, **storage))
