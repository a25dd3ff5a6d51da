"""A shrinking asks no more than it must, goes on where it was, and writes the smallest however it ends."""

import asyncio
import itertools
import json
import os
import signal
from pathlib import Path

import pytest
from shrink_rig import STALE, Scripted, fails_by, faults, shrink, step, subject

from jepsen_blk.errors import LabError, UserError
from jepsen_blk.shrink.budget import parse_budget
from jepsen_blk.shrink.record import STATE, Ran, open_record
from jepsen_blk.shrink.session import FOLDER
from jepsen_blk.spec import Spec, dump_spec, load_spec

FOUR = (
    step("pause", duration_s=0.5),
    step("hold", duration_s=0.5),
    step("lost-path-migration"),
    step("migrate"),
)
MANY = (*[step("pause")] * 5, step("hold"), *[step("freeze")] * 6, step("migrate"), step("reset"))


class Killed(BaseException):
    """What a killed program does: nothing more."""


def shrunk(folder: Path) -> Spec:
    return load_spec(folder / "shrunk.toml")


def head(folder: Path) -> dict[str, str]:
    """Return the comments of the file by what they are about."""
    text = (folder / "shrunk.toml").read_text()
    pairs = (line[2:].split("  ", 1) for line in text.splitlines() if line.startswith("# ") and "  " in line)
    return {key: value.strip() for key, value in pairs}


@pytest.mark.parametrize("culprits", [["lost-path-migration"], ["pause", "migrate"], ["hold"], []])
def test_the_faults_to_blame_are_left_and_the_file_says_so(tmp_path: Path, culprits: list[str]):
    run = Scripted(tmp_path, fails_by(*culprits))
    code, said = shrink(subject(tmp_path, *FOUR), run, confirm=5)
    assert code == 0
    assert faults(shrunk(tmp_path)) == culprits
    assert shrunk(tmp_path) == run.specs[-1]
    told = head(tmp_path)
    assert (told["fails by"], told["how often"]) == (STALE, "5 of 5 runs")
    assert told["faults"] == f"{len(culprits)} of the 4 that the run had planned"
    assert told["run it"] == f"jepsen-blk test {tmp_path}/shrunk.toml"
    assert told["effort"] == f"found in {len(run.specs)} runs; nothing more could be left out"
    assert str(tmp_path) in (tmp_path / "shrunk.toml").read_text().splitlines()[0]
    assert f"faults: {len(culprits)} of the 4 planned; by {STALE}; fails 5 of 5 runs" in said


def test_what_fails_is_run_once_and_what_passes_as_often_as_is_asked(tmp_path: Path):
    run = Scripted(tmp_path, fails_by("hold", "reset"))
    shrink(subject(tmp_path, *MANY), run, attempts=2, confirm=0)
    verdicts = {dump_spec(spec): fails_by("hold", "reset")(spec) for spec in run.specs}
    assert set(verdicts.values()) == {"pass", "fail"}
    assert run.counts == {spec: 1 if verdict == "fail" else 2 for spec, verdict in verdicts.items()}


@pytest.mark.parametrize(("attempts", "left"), [(3, ["hold"]), (2, ["pause", "hold"])])
def test_what_fails_now_and_then_is_kept_if_one_attempt_fails(tmp_path: Path, attempts: int, left: list[str]):
    def rarely(spec: Spec) -> str:
        if "hold" not in faults(spec):
            return "pass"
        return "fail" if "pause" in faults(spec) or run.counts.most_common(1)[0][1] == 3 else "unknown"

    run = Scripted(tmp_path, rarely)
    shrink(subject(tmp_path, step("pause"), step("hold")), run, attempts=attempts, confirm=0)
    assert faults(shrunk(tmp_path)) == left


@pytest.mark.parametrize("verdict", ["unknown", "fail"])
def test_a_verdict_of_unknown_or_another_anomaly_is_not_the_failure(tmp_path: Path, verdict: str):
    run = Scripted(tmp_path, lambda _spec: verdict, kind="phantom")
    code, said = shrink(subject(tmp_path, *FOUR), run)
    assert (code, len(run.specs)) == (2, 3)
    assert not (tmp_path / "shrunk.toml").exists()
    assert "the run did not fail again, so nothing was written" in said


def test_only_the_run_of_the_smallest_is_left_on_the_disk(tmp_path: Path):
    most = 0

    def answer(spec: Spec) -> str:
        nonlocal most
        most = max(most, len(run.kept()))
        return fails_by("hold")(spec)

    run = Scripted(tmp_path, answer)
    _, said = shrink(subject(tmp_path, *MANY), run)
    (kept,) = run.kept()
    assert most == 2
    assert f"report         {kept}" in said


@pytest.mark.parametrize("killed_at", [1, 2, 4, 5, 9, 13])
def test_a_killed_shrinking_goes_on_where_it_was(tmp_path: Path, killed_at: int):
    whole = Scripted(tmp_path / "whole", fails_by("hold", "reset"))
    shrink(subject(tmp_path / "whole", *MANY), whole)

    def killed(spec: Spec) -> str:
        if len(first.specs) == killed_at:
            raise Killed
        return fails_by("hold", "reset")(spec)

    first = Scripted(tmp_path / "t", killed)
    with pytest.raises(Killed):
        shrink(subject(tmp_path / "t", *MANY), first)
    second = Scripted(tmp_path / "t", fails_by("hold", "reset"))
    shrink(subject(tmp_path / "t", *MANY), second)
    assert first.specs[:-1] + second.specs == whole.specs
    assert shrunk(tmp_path / "t") == shrunk(tmp_path / "whole")
    assert len(second.kept()) == 1


def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path):
    run = Scripted(tmp_path, fails_by("hold"))
    shrink(subject(tmp_path, *FOUR), run)
    state = tmp_path / FOLDER / STATE
    state.write_bytes(state.read_bytes()[:-20])
    again = Scripted(tmp_path, fails_by("hold"))
    code, _ = shrink(subject(tmp_path, *FOUR), again)
    assert (code, again.specs) == (0, run.specs[-1:])
    assert all(json.loads(line) for line in state.read_text().splitlines())


def test_what_is_done_is_not_done_again(tmp_path: Path):
    shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("hold")))
    written = (tmp_path / "shrunk.toml").read_text()
    again = Scripted(tmp_path, fails_by("hold"))
    code, said = shrink(subject(tmp_path, *FOUR), again)
    assert (code, again.specs) == (0, [])
    assert (tmp_path / "shrunk.toml").read_text() == written
    assert "known from before" in said


@pytest.mark.parametrize("runs", [1, 4, 9])
def test_a_budget_of_runs_ends_with_the_smallest_so_far_and_the_next_one_goes_on(tmp_path: Path, runs: int):
    whole = Scripted(tmp_path / "whole", fails_by("hold", "reset"))
    shrink(subject(tmp_path / "whole", *MANY), whole, confirm=0)
    parts = []
    for _ in itertools.count():
        part = Scripted(tmp_path / "t", fails_by("hold", "reset"))
        shrink(subject(tmp_path / "t", *MANY), part, budget=str(runs), confirm=0)
        parts.append(part.specs)
        assert fails_by("hold", "reset")(shrunk(tmp_path / "t")) == "fail"
        if "nothing more" in head(tmp_path / "t")["effort"]:
            break
        assert len(part.specs) == runs
        assert (
            f"the budget of {'1 run' if runs == 1 else f'{runs} runs'} is spent; `jepsen-blk shrink"
            in (tmp_path / "t/shrunk.toml").read_text()
        )
    assert [spec for part in parts for spec in part] == whole.specs
    assert shrunk(tmp_path / "t") == shrunk(tmp_path / "whole")


def test_a_budget_of_time_ends_it_too(tmp_path: Path):
    run = Scripted(tmp_path, fails_by("hold"))
    shrink(subject(tmp_path, *FOUR), run, budget="2m", confirm=3, clock=lambda: 50.0 * len(run.specs))
    assert len(run.specs) == 3 + 3
    assert "the budget of 2 m is spent" in head(tmp_path)["effort"]
    assert head(tmp_path)["how often"].endswith("of 3 runs")


@pytest.mark.parametrize("text", ["0", "-1", "soon", "10 m", "5d", ""])
def test_a_budget_that_is_none_is_refused(text: str):
    with pytest.raises(UserError, match="write 60, 90s, 30m or 2h"):
        parse_budget(text)


def test_an_interrupt_writes_the_smallest_so_far(tmp_path: Path):
    class Interrupted(Scripted):
        async def __call__(self, spec: Spec) -> Ran:
            if len(self.specs) == 5:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            return await super().__call__(spec)

    with pytest.raises(KeyboardInterrupt):
        shrink(subject(tmp_path, *FOUR), Interrupted(tmp_path, fails_by("hold")))
    assert faults(shrunk(tmp_path)) == ["pause", "hold"]
    assert head(tmp_path)["how often"] == "not confirmed"
    assert head(tmp_path)["effort"].startswith("found in 5 runs; interrupted; `jepsen-blk shrink")
    shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("hold")))
    assert faults(shrunk(tmp_path)) == ["hold"]


def test_a_lab_that_fails_ends_it_with_the_smallest_so_far(tmp_path: Path):
    def broken(spec: Spec) -> str:
        if len(run.specs) == 3:
            raise LabError("no QEMU")
        return fails_by("hold")(spec)

    run = Scripted(tmp_path, broken)
    with pytest.raises(LabError, match="no QEMU"):
        shrink(subject(tmp_path, *FOUR), run)
    assert "hold" in faults(shrunk(tmp_path))
    assert "ended by an error; `jepsen-blk shrink" in head(tmp_path)["effort"]
    assert len(run.kept()) == 1


@pytest.mark.parametrize(("failing", "code"), [(3, 0), (1, 0), (0, 2)])
def test_how_often_the_smallest_fails_is_said_as_it_is(tmp_path: Path, failing: int, code: int):
    def answer(spec: Spec) -> str:
        seen = [faults(other) for other in run.specs].count(["hold"])
        return "fail" if faults(spec) and seen <= 1 + failing else "pass"

    run = Scripted(tmp_path, answer)
    least = {"workload": {"blocks": 1, "hot_blocks": 1, "queue_depth": 1, "burst_fraction": 0}}
    of = subject(tmp_path, step("hold"), time_limit_s=10, **least)
    assert shrink(of, run, attempts=1, confirm=5)[0] == code
    assert head(tmp_path)["how often"] == f"{failing} of 5 runs"


def test_two_at_once_would_delete_each_others_runs_so_the_second_is_refused(tmp_path: Path):
    with open_record(tmp_path / FOLDER), pytest.raises(UserError, match="is being shrunk already"):
        shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("hold")))


def test_a_damaged_state_is_named_with_its_line(tmp_path: Path):
    shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("hold")))
    state = tmp_path / FOLDER / STATE
    state.write_text(state.read_text() + "{}\n")
    number = len(state.read_text().splitlines())
    with pytest.raises(UserError, match=rf"{STATE}:{number}: not the state of a shrinking: .*delete it"):
        shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("hold")))


def test_every_candidate_is_a_line_that_says_what_came_of_it(tmp_path: Path):
    _, said = shrink(subject(tmp_path, *FOUR), Scripted(tmp_path, fails_by("lost-path-migration")))
    lines = [line[11:] for line in said.splitlines()]
    assert lines[2:6] == [
        "✓ all that came: pause, hold, lost-path-migration, migrate; fails by stale-overwrite",
        "✓ 2 of 4 faults: lost-path-migration, migrate; fails by stale-overwrite",
        "- 1 of 4 faults: migrate; pass in 3 runs",
        "✓ 1 of 4 faults: lost-path-migration; fails by stale-overwrite",
    ]
    assert "✓ workload: queue_depth 1, not 16; fails by stale-overwrite" in lines


def test_what_cannot_be_played_is_not_run_and_is_said_of_the_run_itself_alone(tmp_path: Path):
    script = [{"do": "quiesce"}, {"do": "write", "block": 1, "name": "A"}, {"do": "await-write", "of": "A"}]
    run = Scripted(tmp_path / "script", fails_by("choreography"))
    _, said = shrink(subject(tmp_path / "script", step("choreography", steps=script)), run, confirm=0)
    assert "cannot be" not in said
    assert shrunk(tmp_path / "script").nemesis[0].options == {"steps": script[:1]}
    late = Scripted(tmp_path / "late", fails_by("pause"))
    too_long = step("slow-storage", 0.3, step("pause"), duration_s=99.0)
    code, said = shrink(subject(tmp_path / "late", too_long, time_limit_s=10), late)
    assert (code, late.specs) == (2, [])
    assert "- all that came: slow-storage (pause during it); cannot be: " in said
