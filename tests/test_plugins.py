"""Packages beside the tester: what they register is found when it is asked for, and harms nobody else."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugin_package import install

from jepsen_blk.errors import SpecError
from jepsen_blk.plugins import Catalogue, PluginError
from jepsen_blk.spec import make_spec
from nemesis.catalogue import CATALOGUE, FAULTS, make_fault, why_no_fault
from nemesis.schedule import make_plan

TREMOR = '''
from dataclasses import dataclass, field
from typing import Annotated, ClassVar
from pydantic import ConfigDict, Field

@dataclass
class Tremor:
    """Shake the rack."""

    name: ClassVar[str] = "tremor"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    duration_s: Annotated[float, Field(gt=0)] = 2.0
    racks: list[int] = field(default_factory=lambda: [1])

    async def setup(self, stage): ...
    async def inject(self, stage): ...
    async def prove(self, stage): return "shaken"
    async def dwell(self, stage): ...
    async def heal(self, stage): ...
    async def prove_healed(self, stage): return "still"
'''
Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of faults for this test only: its name, entry points, and one module's source."""
    monkeypatch.setattr(CATALOGUE, "_loaded", {})

    def add(package: str, faults: dict[str, str], source: str = TREMOR) -> None:
        module = next(iter(faults.values())).partition(":")[0]
        folder = install(tmp_path / package, package, {"jepsen_blk.nemeses": faults}, {module: source})
        monkeypatch.syspath_prepend(folder)

    return add


def problem_of(name: str) -> str:
    with pytest.raises(PluginError) as caught:
        make_fault(name, {})
    return str(caught.value)


def test_a_registered_fault_is_made_and_planned_like_one_of_ours(installed: Install) -> None:
    installed("acme", {"tremor": "acme_tremor:Tremor"})
    assert make_fault("tremor", {"duration_s": 3}).duration_s == 3  # type: ignore[attr-defined]
    (step,) = make_plan(make_spec({"nemesis": [{"fault": "tremor"}]})).steps
    assert step.options == {"duration_s": 2.0, "racks": [1]}
    assert step.least_s == 2


def test_its_options_are_checked_and_its_name_is_among_the_choices(installed: Install) -> None:
    installed("acme", {"tremor": "acme_options:Tremor"})
    with pytest.raises(
        SpecError, match=r"nemesis tremor: duration_s: .*greater than 0, not 0; duration: Unexpected"
    ):
        make_fault("tremor", {"duration_s": 0, "duration": 1})
    with pytest.raises(SpecError, match=r"there are .*, tremor; did you mean 'tremor'"):
        make_fault("tremro", {})


def test_no_package_is_looked_at_for_what_is_built_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: Any) -> None:
        pytest.fail("the installed packages were looked at")

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    storage = {"flush": True, "backing": "disk", "cache": "volatile"}
    offered = FAULTS.keys() - {"held-bytes"}  # of stock servers alone
    options = {"choreography": {"steps": [{"do": "quiesce"}]}}
    faults = [{"fault": name, "options": options.get(name, {})} for name in offered]
    assert make_plan(make_spec({"nemesis": faults, "storage": storage})).steps


@pytest.mark.parametrize(
    ("target", "source", "said"),
    [
        ("acme_b1:Tremor", "import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("acme_b2:Tremor", "raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("acme_b3:Quake", TREMOR, "module 'acme_b3' has no attribute 'Quake'"),
        ("acme_b4:TREMOR", "TREMOR = 7", "it is no dataclass"),
        ("acme_b5:Tremor", TREMOR.replace('= "tremor"', '= "quake"'), "its `name` is 'quake'"),
        ("acme_b6:Tremor", TREMOR.replace("async def heal", "def heal"), "it does not implement heal:"),
        ("acme_b7:Tremor", TREMOR.replace("inject(self, stage)", "inject(self)"), "not implement inject:"),
        (
            "acme_b8:Tremor",
            "from nemesis.fault import Fault"
            + TREMOR.replace("r:", "r(Fault):").replace("def dwell", "def x"),
            "it does not implement dwell:",
        ),
        ("acme_b9:Tremor", TREMOR.replace('extra="forbid"', ""), "it takes unknown options"),
        ("acme_b10:Tremor", TREMOR.replace("racks: list[int]", "racks: object()"), "its options cannot be"),
    ],
)
def test_a_broken_fault_is_named_with_its_package_and_the_remedy(
    installed: Install, target: str, source: str, said: str
) -> None:
    installed("acme", {"tremor": target}, source)
    problem = problem_of("tremor")
    assert problem.startswith(f"fault 'tremor' of package acme 1.2: {target}")
    assert said in problem
    assert problem.endswith("mend it, or `pip uninstall acme`")
    assert "\n" not in problem


def test_a_broken_package_troubles_nobody_who_asks_for_another_fault(installed: Install) -> None:
    installed("broken", {"rubble": "rubble_broken:Rubble"}, "import no_such_thing")
    installed("acme", {"tremor": "acme_beside:Tremor"})
    assert make_fault("tremor", {}).name == "tremor"
    assert make_fault("pause", {}).name == "pause"
    listed = {entry.name: entry for entry in CATALOGUE.entries()}
    assert set(listed) == {*FAULTS, "tremor", "rubble"}
    assert listed["tremor"].package == "acme 1.2"
    assert "package broken 1.2" in listed["rubble"].problem
    assert [name for name, entry in listed.items() if entry.problem] == ["rubble"]


def test_a_package_cannot_take_the_place_of_a_built_in_fault(installed: Install) -> None:
    installed("acme", {"pause": "acme_pause:Tremor"})
    assert type(make_fault("pause", {})) is FAULTS["pause"]
    ours, theirs = (entry for entry in CATALOGUE.entries() if entry.name == "pause")
    assert (ours.package, ours.item) == ("", FAULTS["pause"])
    assert theirs.problem == (
        "fault 'pause' of package acme 1.2: a built-in fault has this name and is used; "
        "give it another one, or `pip uninstall acme`"
    )


def test_two_packages_with_one_name_are_both_named(installed: Install) -> None:
    installed("acme", {"tremor": "acme_first:Tremor"})
    installed("other", {"tremor": "acme_second:Tremor"})
    problem = problem_of("tremor")
    assert "acme 1.2" in problem
    assert "other 1.2" in problem
    assert problem.endswith("both register it; uninstall one of them")


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_built_in_would_be_taken_from_a_package_too(name: str) -> None:
    assert why_no_fault(name, FAULTS[name]) == ""


def test_a_catalogue_loads_what_it_has_found_once(installed: Install) -> None:
    installed("acme", {"tremor": "acme_once:Tremor"})
    catalogue = Catalogue("fault", "jepsen_blk.nemeses", {}, why_no_fault)
    assert catalogue.get("tremor") is catalogue.get("tremor")
    assert catalogue.names() == ["tremor"]
