"""The exploration of a small scope: it is exhaustive, it can fail, and what it finds can be played again."""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jepsen_blk.cli import main
from jepsen_blk.controller import run_test
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, EXIT_USER, InternalError
from jepsen_blk.expect import misses
from jepsen_blk.explore.case import Case, Frontend, Scope, Wire
from jepsen_blk.explore.chronicle import Chronicle
from jepsen_blk.explore.finding import explore
from jepsen_blk.explore.register import INITIAL, A, B, Register
from jepsen_blk.explore.replayed import replay_simulated
from jepsen_blk.explore.script import kinds, told, write_script
from jepsen_blk.explore.search import Graph, Search
from jepsen_blk.explore.session import script_of
from jepsen_blk.explore.trace import trace
from jepsen_blk.explore.world import AGAIN, WRITES
from jepsen_blk.lab.sim import target
from jepsen_blk.spec import HandoffPolicy, load_spec
from jepsen_blk.storage.conflict import Arbiter, ConflictModel, Decision, Write

ROOT = Path(__file__).parent.parent
TINY = Case(ConflictModel.ARRIVAL_ORDER, Frontend.BLKFRONT, HandoffPolicy.REQUEUE, Scope.MIGRATION)
FOUNDING = Case(ConflictModel.IGNORE_SECOND, Frontend.QEMU, HandoffPolicy.REQUEUE, Scope.PATH_LOSS)
AO, IGNORE, SERIALIZE = ConflictModel.ARRIVAL_ORDER, ConflictModel.IGNORE_SECOND, ConflictModel.SERIALIZE
UNSAFE = (
    *(HandoffPolicy.REQUEUE, HandoffPolicy.CANCEL_INITIATOR, HandoffPolicy.PREEMPT),
    *(HandoffPolicy.QUIESCE, HandoffPolicy.STONITH),
)


def silent(line: str) -> None:
    """Nobody listens."""


def word(case: Case) -> str:
    found = explore(case, silent)
    if found.safe:
        return "safe"
    return "before" if found.before_handoff else "wire" if found.rests_on_wire else "unsafe"


def ends(graph: Graph) -> set[tuple[int, ...]]:
    """What the guest has seen at the end of every interleaving."""
    return {past for past, ways in zip(graph.pasts, graph.edges, strict=True) if not ways}


def depths(graph: Graph) -> list[int]:
    """How many events lead to each state of a tree."""
    found = [0] * len(graph.edges)
    for state, ways in enumerate(graph.edges):
        for _, to in ways:
            found[to] = found[state] + 1
    return found


@pytest.mark.parametrize("policy", HandoffPolicy)
@pytest.mark.parametrize("conflict", [AO, IGNORE])
def test_merging_equal_states_loses_no_interleaving_and_no_end(
    conflict: ConflictModel, policy: HandoffPolicy
) -> None:
    case = replace(TINY, conflict=conflict, policy=policy, wire=Wire.PROMPT)
    merged, tree = Search(case).run(), Search(case, merge=False).run()
    assert len(merged.edges) < len(tree.edges)
    assert merged.interleavings == tree.interleavings == sum(not ways for ways in tree.edges)
    assert ends(merged) == ends(tree)


def test_merging_loses_nothing_where_more_can_happen() -> None:
    for case in (replace(TINY, policy=HandoffPolicy.CANCEL_INITIATOR), replace(TINY, conflict=SERIALIZE)):
        merged, tree = Search(case).run(), Search(case, merge=False).run()
        assert (merged.interleavings, ends(merged)) == (tree.interleavings, ends(tree))


@pytest.mark.parametrize("policy", [HandoffPolicy.REQUEUE, HandoffPolicy.PREEMPT, HandoffPolicy.STONITH])
def test_the_shortest_counter_example_is_the_shortest_of_all_interleavings(policy: HandoffPolicy) -> None:
    case = replace(TINY, policy=policy, wire=Wire.PROMPT)
    shortest, tree = Search(case).run().shortest(), Search(case, merge=False).run()
    assert shortest is not None
    assert len(shortest) == min(depths(tree)[state] for state in tree.contradicted)


def test_the_number_of_interleavings_is_the_same_each_time_whatever_the_order_of_hashes() -> None:
    code = (
        "from tests.test_explore import Search, FOUNDING, TINY\n"
        "for case in (TINY, FOUNDING):\n"
        "    graph = Search(case).run(); print(graph.interleavings, len(graph.edges), graph.shortest())\n"
    )
    said = set()
    for number in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": number, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1


def test_the_register_judges_as_the_checker_does() -> None:
    rng = random.Random(5)
    failed = 0
    for number in range(1500):
        failover = number % 3 == 0
        register, values = Register(), {name: WRITES[name][0] for name in (INITIAL, A)}
        chronicle = Chronicle(values | {B: (AGAIN if failover else WRITES)[B][0]})
        for step, name in random_past(rng, failover):
            getattr(register, step)(name)
            getattr(chronicle, step)(name)
            if rng.random() < 0.3:
                register.recall(register.past())
        fails = chronicle.judge().verdict == "fail"
        assert register.contradicted == fails
        failed += fails
    assert 300 < failed < 1200


def random_past(rng: random.Random, failover: bool) -> list[tuple[str, int]]:
    """What a guest could see of a storage that does as it likes."""
    past: list[tuple[str, int]] = []
    open_: int | None = None
    left, fenced = [A, B], not failover
    for _ in range(rng.randrange(4, 14)):
        choices: list[tuple[str, int]] = [("read", name) for name in (INITIAL, A, B) if name not in left]
        if not fenced:
            choices.append(("fenced", A))
        if open_ is not None:
            choices += [("told", open_)] * 2 + [("failed", open_)]
        elif left and not (failover and not fenced and left[0] == B):
            choices += [("issued", left[0])] * 2
        step = rng.choice(choices)
        past.append(step)
        if step[0] == "issued":
            open_ = left.pop(0)
        elif step[0] in ("told", "failed"):
            open_ = None
        elif step[0] == "fenced":
            fenced, open_ = True, None
            left = [B]
    return past


def test_what_each_policy_is_worth_behind_blkfront() -> None:
    expected = {
        AO: "unsafe wire unsafe unsafe safe safe safe unsafe unsafe",
        IGNORE: "unsafe wire unsafe unsafe safe unsafe safe unsafe unsafe",
        SERIALIZE: "wire wire wire safe safe safe safe wire wire",
        ConflictModel.REJECT_BUSY: "wire wire wire safe safe safe safe wire wire",
        ConflictModel.DROP_ON_DISCONNECT: "unsafe wire wire unsafe safe safe safe unsafe wire",
    }
    for conflict, words in expected.items():
        found = [word(replace(TINY, conflict=conflict, policy=policy)) for policy in HandoffPolicy]
        assert " ".join(found) == words, conflict


@pytest.mark.parametrize(
    ("conflict", "policy", "worth"),
    [
        (IGNORE, HandoffPolicy.REQUEUE, "unsafe"),
        (AO, HandoffPolicy.REQUEUE, "unsafe"),
        (AO, HandoffPolicy.CANCEL_INITIATOR, "unsafe"),
        (AO, HandoffPolicy.DRAIN, "wire"),
        (AO, HandoffPolicy.PREEMPT_ABORT, "safe"),
        (AO, HandoffPolicy.EPOCH, "safe"),
        (IGNORE, HandoffPolicy.SINGLE_WRITER, "safe"),
    ],
)
def test_what_a_policy_is_worth_in_the_scope_of_2006(
    conflict: ConflictModel, policy: HandoffPolicy, worth: str
) -> None:
    assert word(replace(FOUNDING, conflict=conflict, policy=policy)) == worth


def test_a_frontend_that_sends_again_by_itself_leaves_no_policy_a_say() -> None:
    case = replace(
        FOUNDING, conflict=AO, frontend=Frontend.QEMU_RECONNECT, policy=HandoffPolicy.PREEMPT_ABORT
    )
    assert word(case) == "before"


def accepts_all(self: Arbiter, node: str, *, abort: bool) -> list[Write]:
    self._fenced.add(node)
    return []


def applies_old_epochs(self: Arbiter, write: Write) -> Decision:
    write.begun = True
    return write.decision


def admits_both(self: Arbiter, node: str) -> None:
    self._fenced.discard(node)


@pytest.mark.parametrize(
    ("policy", "method", "broken"),
    [
        (HandoffPolicy.EPOCH, "begin", applies_old_epochs),
        (HandoffPolicy.SINGLE_WRITER, "single_writer", admits_both),
    ],
)
def test_a_storage_that_breaks_a_policy_is_found(
    monkeypatch: pytest.MonkeyPatch, policy: HandoffPolicy, method: str, broken: Callable[..., Any]
) -> None:
    case = replace(TINY, policy=policy)
    assert word(case) == "safe"
    monkeypatch.setattr(Arbiter, method, broken)
    found = explore(case, silent)
    script = script_of(found)
    assert script is not None
    assert kinds(script.trace) == ("stale-overwrite",)


def test_a_storage_that_says_it_has_aborted_and_has_not_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arbiter, "fence", accepts_all)
    monkeypatch.setattr(Arbiter, "in_flight", lambda self, node: [])
    case = replace(TINY, policy=HandoffPolicy.PREEMPT_ABORT, wire=Wire.PROMPT)
    assert Search(case).run().shortest() is not None


def test_a_timer_that_the_explorer_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(target.SimTarget):
        def _due_late(self) -> None: ...

        def write(self, *write: Any) -> None:
            self._loop.call_later(1, self._due_late)

    monkeypatch.setattr("jepsen_blk.explore.world.SimTarget", Later)
    with pytest.raises(InternalError, match="does not know the timer _due_late"):
        Search(TINY).run()


@pytest.mark.parametrize(
    "case",
    [
        *(replace(TINY, conflict=c, policy=p) for c in (AO, IGNORE) for p in UNSAFE),
        replace(FOUNDING, conflict=ConflictModel.DROP_ON_DISCONNECT),
        *(replace(FOUNDING, conflict=c) for c in (AO, IGNORE)),
        replace(TINY, conflict=IGNORE, policy=HandoffPolicy.EPOCH),
        replace(FOUNDING, conflict=AO, policy=HandoffPolicy.PREEMPT),
        replace(FOUNDING, conflict=AO, frontend=Frontend.QEMU_RECONNECT),
        replace(FOUNDING, conflict=AO, scope=Scope.FAILOVER),
    ],
    ids=lambda case: "-".join((case.conflict, case.frontend, case.policy, case.scope)),
)
def test_a_counter_example_ends_alike_when_the_simulator_plays_its_steps(case: Case) -> None:
    found = explore(case, silent)
    scripts = [write_script(trace(case, found.path))]
    if found.prompt is not None:
        scripts += [write_script(trace(found.prompt.case, found.prompt.path))]
    assert any(replay_simulated(script.spec) == [] for script in scripts)


@pytest.mark.lab
@pytest.mark.parametrize(
    "case",
    [
        FOUNDING,
        replace(FOUNDING, conflict=AO, policy=HandoffPolicy.CANCEL_INITIATOR),
    ],
    ids=lambda case: f"{case.conflict}-{case.policy}",
)
def test_a_counter_example_ends_alike_on_real_guests(case: Case, tmp_path: Path) -> None:
    script = script_of(explore(case, silent))
    assert script is not None
    out = tmp_path / "example.toml"
    script.write(out)
    spec = load_spec(out)
    assert spec.lab == "local"
    outcome = asyncio.run(run_test(spec, tmp_path))
    assert spec.expect is not None
    assert (misses(spec.expect, outcome.results), outcome.results["reasons"]) == ([], [])


def test_a_counter_example_is_told_with_the_copy_that_did_the_damage() -> None:
    script = script_of(explore(TINY, silent))
    assert script is not None
    said = list(told(script.trace))
    assert said[0] == " 1. the guest on X writes A"
    assert said[-2:] == [
        "    At last: the guest reads A.",
        "    The first copy of A (X) was applied at last, by event 13.",
    ]


def invoke(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Call the verb; return its exit code and what it said."""
    code = main(["explore", *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


TINY_OPTIONS = ("--frontend", "blkfront", "--scope", "migration")


def test_the_verb_says_that_a_case_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capsys, *TINY_OPTIONS, "--handoff", "preempt-abort")
    assert (code, "SAFE in all 71 interleavings" in out) == (EXIT_PASS, True)


def test_the_verb_shows_and_writes_the_counter_example(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "example.toml"
    code, out, _ = invoke(capsys, *TINY_OPTIONS, "--conflict", "ignore-second", "--out", str(file))
    assert code == EXIT_FAIL
    assert "UNSAFE by stale-read; the shortest, 7 events" in out
    assert f"{file}: written; played in the simulator it fails too" in out
    assert load_spec(file).expect is not None


def test_what_no_steps_can_play_is_not_written_and_the_reason_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "example.toml"
    code, out, _ = invoke(capsys, *TINY_OPTIONS, "--handoff", "drain", "--out", str(file))
    assert code == EXIT_FAIL
    assert "It rests on the wire" in out
    assert "the first copy of A (X) is on the wire from event 1 to event 5" in out
    assert not file.exists()


def test_the_table_has_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capsys, "--all", *TINY_OPTIONS)
    assert (code, len(re.findall(r"safe \d", out))) == (EXIT_FAIL, 16)


def test_the_object_of_a_case_has_its_counter_example(capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads(invoke(capsys, *TINY_OPTIONS, "--json")[1])
    assert (one["conflict"], one["handoff"]) == ("arrival-order", "requeue")
    assert (one["safe"], one["interleavings"], one["safe_if_wire_is_empty"]) == (False, None, False)
    assert one["counter_example"]["anomalies"] == ["stale-overwrite"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--handoff", "drian"), "no handoff policy 'drian'.*did you mean 'drain'"),
        (("--conflict", "maybe"), "no conflict model 'maybe'; there are arrival-order"),
        (("--frontend", "vbd"), "no frontend 'vbd'; there are blkfront, qemu, qemu-reconnect"),
        (("--scope", "all"), "no scope 'all'; there are migration, path-loss, failover"),
        (("--all", "--out", "x.toml"), "leave out --all"),
        ((*TINY_OPTIONS, "--out", "/no/x.toml"), "/no/x.toml: cannot be written"),
    ],
)
def test_a_mistake_is_named_with_the_remedy(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    code, _, err = invoke(capsys, *argv)
    assert code == EXIT_USER
    assert re.search(said, err.splitlines()[-1])
