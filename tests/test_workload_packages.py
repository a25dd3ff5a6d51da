"""A workload of another package: its options in a specification, its source in the guest."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import WAIT_S, agent_rig
from plugin_package import install

from jepsen_blk.controller import run_test
from jepsen_blk.errors import LabError, SpecError
from jepsen_blk.history.journal import read_journal
from jepsen_blk.history.record import F
from jepsen_blk.judge import judge_run
from jepsen_blk.plugins import PluginError
from jepsen_blk.spec import dump_spec, load_spec, load_stored_spec, make_spec
from jepsen_blk.workload_spec import CATALOGUE
from workloads import testing
from workloads.agent.operations import READ, WRITE
from workloads.agent.sent import SourceError
from workloads.source import MODULES, SentWorkload, sent_workload
from workloads.testing import draw

OPTIONS = '''
from typing import Annotated, ClassVar, Literal
from pydantic import Field
from jepsen_blk.workload_spec import WorkloadSpec

class Stride(WorkloadSpec):
    """Every so many blocks in turn, written and then read."""

    agent_module: ClassVar[str] = "stride_MODULE.agent"
    name: Literal["stride"] = "stride"
    step: Annotated[int, Field(ge=1)] = 3
'''
AGENT = """
from workloads.agent.operations import KIND_BITS, READ, WRITE

class Workload:
    hot_blocks = 0

    def __init__(self, random, options):
        self.blocks = options["blocks"]
        self._step = options["step"]
        self._at = 0

    def batch(self):
        self._at += 1
        block = self._at * self._step % self.blocks
        return [block << KIND_BITS | READ, block << KIND_BITS | WRITE]
"""
Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs the package `acme` for this test only; each test has a module name of its own."""
    monkeypatch.setattr(CATALOGUE, "_loaded", {})

    def add(module: str, agent: str = AGENT, options: str = OPTIONS) -> None:
        entry_points = {"jepsen_blk.workloads": {"stride": f"stride_{module}:Stride"}}
        modules = {
            f"stride_{module}.__init__": options.replace("MODULE", module),
            f"stride_{module}.agent": agent,
        }
        monkeypatch.syspath_prepend(install(tmp_path / "acme", "acme", entry_points, modules))

    return add


def test_the_options_of_a_package_s_workload_are_validated_with_every_other_mistake(
    installed: Install,
) -> None:
    installed("options")
    spec = make_spec({"workload": {"name": "stride", "step": 5, "blocks": 64}})
    assert spec.workload.model_dump()["step"] == 5
    assert spec.size_bytes == 64 * 4096
    with pytest.raises(SpecError) as caught:
        make_spec({"seed": -1, "workload": {"name": "stride", "step": 0, "stride": 2, "blocks": 0}})
    assert all(
        said in str(caught.value)
        for said in ("seed: ", "workload.step: ", "workload.stride: Extra inputs", "workload.blocks: ")
    )


def test_a_workload_that_there_is_not_is_named_with_the_choices(installed: Install) -> None:
    installed("choices")
    with pytest.raises(
        SpecError, match="workload: no workload 'strid'; there are register, stride; did you mean"
    ):
        make_spec({"workload": {"name": "strid"}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("import no_such_thing", "cannot be loaded: ModuleNotFoundError"),
        ("Stride = dict", "it is no subclass of jepsen_blk.workload_spec.WorkloadSpec"),
        (OPTIONS.replace("stride_MODULE.agent", ""), "it has no `agent_module`"),
        (
            OPTIONS.replace('= "stride"', '= "strode"').replace('["str', '["strode", "str'),
            "its `name` has to be",
        ),
        (
            OPTIONS.replace("    step", "    model_config = {'extra': 'ignore'}\n    step"),
            "takes unknown options",
        ),
    ],
    ids=["import", "class", "module", "name", "closed"],
)
def test_broken_options_are_named_with_package_and_remedy_to_who_asks(
    installed: Install, request: pytest.FixtureRequest, options: str, said: str
) -> None:
    installed(request.node.callspec.id, options=options)
    assert make_spec({"workload": {"blocks": 9}}).workload.blocks == 9
    with pytest.raises(SpecError) as caught:
        make_spec({"seed": -1, "workload": {"name": "stride"}})
    assert "workload 'stride' of package acme 1.2" in str(caught.value)
    assert said in str(caught.value)
    assert "`pip uninstall acme`" in str(caught.value)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("import os", "line 1: it imports os, and may import __future__, "),
        ("from . import other", "line 1: it imports ., and may import"),
        ("from workloads.agent import engine", "line 1: it imports workloads.agent, and may"),
        ("class Workload:", "line 1: expected an indented block"),
        ("def f[T](x): ...", "line 1: "),
        (f"TABLE = {'x' * 50_000!r}", "bytes on the link, and 49,152 is the most"),
    ],
    ids=["os", "relative", "engine", "syntax", "new", "long"],
)
def test_a_source_that_cannot_run_in_the_guest_is_refused_before_there_is_one(
    installed: Install, request: pytest.FixtureRequest, agent: str, said: str
) -> None:
    installed(f"source_{request.node.callspec.id}", agent)
    with pytest.raises(PluginError) as caught:
        sent_workload(make_spec({"workload": {"name": "stride"}}).workload)
    assert f"workload 'stride': module stride_source_{request.node.callspec.id}.agent" in str(caught.value)
    assert said in str(caught.value)


def test_a_source_that_is_not_there_is_named(installed: Install) -> None:
    installed("absent", options=OPTIONS.replace("MODULE.agent", "absent.nowhere"))
    with pytest.raises(PluginError, match=r"module stride_absent\.nowhere has no source"):
        sent_workload(make_spec({"workload": {"name": "stride"}}).workload)


def test_what_a_source_may_import_is_allowed_in_every_way_to_write_it(installed: Install) -> None:
    lines = [f"import {module}" for module in MODULES] + [
        "from workloads.agent import operations",
        "from collections import abc, deque",
    ]
    installed("allowed", "\n".join(lines) + AGENT)
    assert sent_workload(make_spec({"workload": {"name": "stride"}}).workload)


def test_nothing_is_sent_for_what_the_image_has() -> None:
    assert sent_workload(make_spec({}).workload) is None


def test_a_stored_run_needs_no_package_to_be_judged(installed: Install, tmp_path: Path) -> None:
    installed("stored")
    file = tmp_path / "spec.toml"
    file.write_text(dump_spec(make_spec({"workload": {"name": "stride", "blocks": 9}})))
    assert load_spec(file).workload.model_dump()["step"] == 3
    file.write_text(file.read_text().replace("stride", "gone"))
    assert load_stored_spec(file).workload.blocks == 9
    with pytest.raises(SpecError, match="no workload 'gone'"):
        load_spec(file)


OPERATIONS = {"name": "stride", "step": 3, "blocks": 64, "queue_depth": 4, "overlapping_writes": False}


def test_the_agent_runs_the_source_that_it_is_sent_in_every_boot(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path, sent=SentWorkload("stride", AGENT)) as rig:
            for boot in (1, 2):
                await rig.link.reset(boot=boot, run=1, seed=1)
                await rig.link.run(OPERATIONS)
                await rig.recorder.reached(200)
                assert await rig.link.quiesce(WAIT_S)
                writes = [row for row in rig.recorder.table(boot) if row["f"] == F.WRITE]
                drawn = sorted({int(row["block"]) for row in writes})
                assert drawn[1] - drawn[0] == 3 or len(drawn) == 64

    asyncio.run(test())


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (
            "import os, no_such",
            "workload 'stride': its module: ModuleNotFoundError: No module named 'no_such'",
        ),
        ("", "workload 'stride': its module has no class Workload"),
        (AGENT.replace('["step"]', '["stop"]'), "Workload(random, options): KeyError: 'stop'"),
        (AGENT.replace('["blocks"]', '["blocks"] + 1'), "it has blocks 65 and hot_blocks 0, and the option"),
        (AGENT.replace("% self.blocks", "% 1000 + 64"), "is no `block << KIND_BITS | kind`"),
        (AGENT.replace("READ, WRITE", "READ, SWEEP as WRITE"), "is no `block << KIND_BITS | kind`"),
        (AGENT.replace("return [", "return [] and ["), "it returned no operation"),
        (AGENT.replace("return [", "return 1 / 0 and ["), "batch(): ZeroDivisionError: division by zero"),
    ],
)
def test_a_source_that_is_wrong_from_the_start_does_not_begin(tmp_path: Path, agent: str, said: str) -> None:
    async def begin() -> None:
        async with agent_rig(tmp_path, sent=SentWorkload("stride", agent)) as rig:
            await rig.link.run(OPERATIONS)

    with pytest.raises(LabError) as caught:
        asyncio.run(begin())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("if self._at > 20: 1 / 0", "batch(): ZeroDivisionError"),
        ("if self._at > 20: return [9999 << KIND_BITS]", "is no `block << KIND_BITS | kind`"),
    ],
)
def test_a_source_that_fails_later_ends_the_workload_and_not_the_agent(
    tmp_path: Path, wrong: str, said: str
) -> None:
    agent = AGENT.replace("self._at += 1", f"self._at += 1\n        {wrong}")

    async def test() -> tuple[str, int]:
        async with agent_rig(tmp_path, sent=SentWorkload("stride", agent)) as rig:
            await rig.link.run(OPERATIONS)
            await rig.recorder.reached(100)  # the source has failed after 40 of them
            with pytest.raises(LabError) as caught:
                await rig.link.quiesce(WAIT_S)
            still = (await rig.link.ping())["operations"]
            assert (await rig.link.ping())["operations"] == still
            return str(caught.value), await rig.link.abandon()

    problem, left = asyncio.run(test())
    assert said in problem
    assert left == 0


def test_what_is_drawn_without_a_guest_is_what_the_guest_would_draw_or_refuse(
    installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("drawn")
    spec = make_spec({"workload": {"name": "stride", "step": 5, "blocks": 64}}).workload
    assert draw(spec, 5) == [(WRITE, 5), (READ, 5), (WRITE, 10), (READ, 10), (WRITE, 15)]
    failing = SentWorkload("stride", AGENT.replace("self._at += 1", "self._at += 1 if self._at < 9 else ''"))
    monkeypatch.setattr(testing, "sent_workload", lambda _: failing)
    assert len(draw(spec, 18)) == 18
    with pytest.raises(SourceError, match=r"workload 'stride': batch\(\): TypeError"):
        draw(spec, 19)


def test_a_workload_that_was_not_sent_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with agent_rig(tmp_path) as rig:
            with pytest.raises(LabError, match="the guest has no workload 'stride'"):
                await rig.link.run(OPERATIONS)

    asyncio.run(test())


@pytest.mark.lab
def test_a_real_guest_runs_the_workload_of_a_package_under_a_migration(
    installed: Install, tmp_path: Path
) -> None:
    imports = "".join(f"import {module}\n" for module in MODULES)
    installed("lab", imports + AGENT)
    spec = make_spec(
        {
            "workload": {"name": "stride", "step": 4},
            "nemesis": [{"fault": "migrate"}],
            "storage": {"write_latency_ms": 20},
        }
    )
    outcome = asyncio.run(run_test(spec, tmp_path / "store"))
    assert (outcome.verdict, outcome.results["reasons"]) == ("pass", [])
    history = read_journal(outcome.run_dir / "history.blk").history
    assert set(history.block[history.f == F.WRITE].tolist()) == set(range(0, 256, 4))
    assert judge_run(outcome.run_dir) == outcome.results
