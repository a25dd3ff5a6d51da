"""Every way to end is one exit code and, when something is wrong, one line without a traceback."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command_line import PROGRAM, Outcome, only_line, run

import jepsen_blk
from jepsen_blk import cli, doctor
from jepsen_blk.errors import LabError, SpecError
from jepsen_blk.history.journal import JournalWriter
from jepsen_blk.history.record import ROW, F
from jepsen_blk.report.view import View
from jepsen_blk.spec import Spec

# The stale overwrite of 2006 as another tester would write it down: B (2) acknowledged, then A (1) is back.
STALE = [
    {"f": "write", "process": 1, "block": 7, "value": 1, "start": 0, "finish": 90, "outcome": "ok"},
    {"f": "write", "process": 2, "block": 7, "value": 2, "start": 100, "finish": 200, "outcome": "ok"},
    {"f": "read", "process": 1, "block": 7, "value": 2, "start": 300, "finish": 310, "outcome": "ok"},
    {"f": "read", "process": 1, "block": 7, "value": 1, "start": 400, "finish": 410, "outcome": "ok"},
]


def stubs(folder: Path) -> str:
    """Make a PATH on which every command of a test is found, and does nothing."""
    folder.mkdir()
    for command in doctor.PACKAGES:
        (folder / command).symlink_to("/bin/true")
    return str(folder)


def write_history(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_version_is_the_packages(tmp_path: Path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"jepsen-blk {jepsen_blk.__version__}\n")


def test_without_a_verb_the_help_is_shown_and_the_call_is_wrong(tmp_path: Path):
    done = run(cwd=tmp_path)
    assert done.returncode == 254
    assert all(verb in done.stdout for verb in ("test", "check", "convert", "doctor", "demo", "image"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tset"], "No such command 'tset'"),
        (["test", "--conflit", "serialize"], "No such option.*--conflit"),
        (["test", "--seed", "many"], "'--seed'"),
        (["test", "a.toml", "b.toml"], "unexpected extra argument"),
        (["test", "missing.toml"], r"missing\.toml: cannot read the specification: No such file"),
        (["test", "--conflict", "ignore-both"], "storage.conflict: .*'arrival-order'.*not 'ignore-both'"),
        (["test", "--storage", "floppy"], "storage.kind: .*'policy'.*not 'floppy'"),
        (["test", "--handoff", "hope"], "handoff.policy: .*'requeue'.*not 'hope'"),
        (["test", "--nemesis", "migrat"], "no fault 'migrat'; there are .*; did you mean 'migrate'"),
        (["test", "--nemesis", "hold:duration=1"], "nemesis hold: duration: "),
        (["test", "--nemesis", "hold:1"], "'1' is not key=value"),
        (["test", "--name", "../up"], "name: .*not '../up'"),
        (["test", "--time-limit", "0"], "time_limit_s: "),
        (["test", "--json"], "--json: it goes with --dry-run"),
        (["replay"], "store store: no run yet"),
        (["replay", "."], r"\.: not a run: it has no history\.blk"),
        (["check", "nowhere"], "nowhere: no such run or file"),
        (["check", "nowhere.jsonl"], r"nowhere\.jsonl: cannot read the history: No such file"),
        (["check", "."], r"\.: not a run: it has no history\.blk"),
        (["check"], "store store: no run yet"),
        (["check", "--deadline", "soon"], "no deadline 'soon'; there are never, fence, error"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_user_got_wrong_is_named_in_one_line(tmp_path: Path, arguments: list[str], said: str):
    assert re.search(said, only_line(run(*arguments, cwd=tmp_path), 254))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "spec.toml: not valid TOML"),
        ("\xff", "spec.toml: not valid TOML"),
        ("nmae = 'x'", "nmae: Extra inputs are not permitted"),
        ("[storage]\nconflict = 'maybe'", "storage.conflict: .*not 'maybe'"),
        ("[workload]\nblocks = 4\nhot_blocks = 5", r"hot_blocks \(5\) is more than blocks \(4\)"),
        ("[[nemesis]]\nfault = 'meteor'", "no fault 'meteor'"),
        ("[[nemesis]]\nfault = 'pause'\noptions = {x = 1}", "nemesis pause: x: "),
        ("[schedule]\nkind = 'mix'\nitems = [{fault = 'pause', options = {x = 1}}]", "nemesis pause: x: "),
        (
            "[schedule]\nkind = 'mix'\nitems = [{fault = 'pause'}]\n[[nemesis]]\nfault = 'pause'",
            "nemesis and schedule exclude each other",
        ),
    ],
)
def test_a_bad_specification_is_named_in_one_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "spec.toml").write_bytes(text.encode("latin-1"))
    assert re.search(said, only_line(run("test", "spec.toml", cwd=tmp_path), 254))


def test_every_mistake_of_a_specification_is_named_at_once(tmp_path: Path):
    (tmp_path / "spec.toml").write_text("seed = -1\n[guest]\nmemory_mb = 1\n")
    line = only_line(run("test", "spec.toml", "--handoff", "hope", cwd=tmp_path), 254)
    assert all(name in line for name in ("seed:", "guest.memory_mb:", "handoff.policy:"))


@pytest.mark.parametrize("text", ["{", "[]\n", '{"f":"dance"}\n', "\x00\x01\x02"])
def test_a_nonsense_history_is_named_with_its_place(tmp_path: Path, text: str):
    (tmp_path / "odd.jsonl").write_text(text)
    assert only_line(run("check", "odd.jsonl", cwd=tmp_path), 254).startswith("odd.jsonl:1: ")


def test_a_nonsense_journal_is_named(tmp_path: Path):
    (tmp_path / "odd.blk").write_bytes(b"\x00" * 100)
    assert only_line(run("check", "odd.blk", cwd=tmp_path), 254).startswith("odd.blk: ")


@pytest.mark.parametrize(("closed", "code", "verdict"), [(True, 0, "pass"), (False, 2, "unknown")])
def test_a_journal_that_was_left_open_is_no_pass(tmp_path: Path, closed: bool, code: int, verdict: str):
    rows = np.zeros(2, ROW)
    rows["f"] = F.WRITE, F.READ
    rows["value"] = 1
    rows["start"], rows["finish"] = (0, 20), (10, 30)
    journal = JournalWriter(tmp_path / "history.blk")
    journal.note({"note": "open", "run": 1, "spec": "register"})
    journal.note({"note": "boot", "boot": 0})
    journal.rows(0, 1, rows.tobytes())
    journal.note({"note": "bye", "boot": 0})
    if closed:
        journal.close()
    done = run("check", "history.blk", "--json", cwd=tmp_path)
    journal.close()
    results = json.loads(done.stdout)
    assert (done.returncode, results["verdict"], results["ops"]) == (code, verdict, 2)
    assert any("not closed" in reason for reason in results["reasons"]) is not closed


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "history.csv").write_text("f,process\n")
    line = only_line(run("check", "history.csv", cwd=tmp_path), 254)
    assert line.startswith("history.csv: give a run directory, a journal")


@pytest.mark.parametrize("verb", [("test",), ("demo",), ("scenarios", "frozen-node")])
def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, verb: tuple[str, ...]):
    line = only_line(run(*verb, "--lab", "local", cwd=tmp_path, env={"PATH": str(tmp_path)}), 254)
    assert re.search(r"qemu-system-x86_64.*: not installed; run `.*apt-get install qemu-system-x86 ", line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["test", "demo"])
@pytest.mark.parametrize("store", ["/proc/store", "a-file", "a-file/inside"])
def test_a_store_that_cannot_be_written_is_named_with_the_option(tmp_path: Path, verb: str, store: str):
    (tmp_path / "a-file").touch()
    done = run(verb, "--store", store, cwd=tmp_path, env={"PATH": stubs(tmp_path / "bin")})
    assert re.search(rf"store {store}: cannot write there: .*--store", only_line(done, 254))


def test_too_little_memory_ends_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "meminfo").write_text("MemAvailable: 102400 kB\n")
    monkeypatch.setattr(doctor, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(doctor, "PACKAGES", {})
    assert cli.main(["test", "--store", str(tmp_path / "store")]) == 254
    assert capsys.readouterr().err.startswith("jepsen-blk: memory: 100 MB are available")
    assert not (tmp_path / "store").exists()


def test_a_stale_overwrite_fails_with_the_object_of_the_design(tmp_path: Path):
    history = write_history(tmp_path / "stale.jsonl", STALE)
    done = run("check", str(history), "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    results = json.loads(done.stdout)
    assert {"verdict", "deadline", "ops", "anomalies", "reasons"} <= set(results)
    assert (results["verdict"], results["deadline"], results["ops"]) == ("fail", "fence", 4)
    (anomaly,) = results["anomalies"]
    assert set(anomaly) == {"kind", "block", "ops", "severity_ms", "text", "could_be"}
    assert (anomaly["kind"], anomaly["block"]) == ("stale-overwrite", 7)
    assert set(anomaly["ops"]) <= {0, 1, 2, 3}


def test_a_history_without_the_last_read_passes(tmp_path: Path):
    history = write_history(tmp_path / "fine.jsonl", STALE[:3])
    done = run("check", str(history), "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["anomalies"]) == (0, [])


def test_the_verdict_for_people_names_the_anomaly(tmp_path: Path):
    history = write_history(tmp_path / "stale.jsonl", STALE)
    done = run("check", str(history), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "fail" in done.stdout.lower()
    assert "stale-overwrite" in done.stdout


@pytest.mark.parametrize("deadline", ["never", "fence", "error"])
def test_the_deadline_that_was_asked_for_is_in_the_results(tmp_path: Path, deadline: str):
    history = write_history(tmp_path / "stale.jsonl", STALE)
    done = run("check", str(history), "--json", "--deadline", deadline, cwd=tmp_path)
    assert json.loads(done.stdout)["deadline"] == deadline


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [str(PROGRAM), "--version"], stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (SpecError("bad\nthing"), 254, "jepsen-blk: bad thing\n"),
        (LabError("QEMU is gone"), 255, "jepsen-blk: QEMU is gone\n"),
        (KeyboardInterrupt(), 130, "jepsen-blk: interrupted\n"),
        (
            ZeroDivisionError("oops"),
            255,
            "jepsen-blk: internal error: ZeroDivisionError: oops; "
            "run with JEPSEN_BLK_DEBUG=1 for the traceback\n",
        ),
    ],
    ids=["user", "lab", "interrupted", "internal"],
)
def test_an_error_ends_with_its_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    said: str,
):
    def fail() -> list[doctor.Check]:
        raise raised

    monkeypatch.delenv("JEPSEN_BLK_DEBUG", raising=False)
    monkeypatch.setattr(doctor, "examine", fail)
    assert cli.main(["doctor"]) == code
    assert capsys.readouterr().err == said


def test_the_traceback_is_there_for_who_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("JEPSEN_BLK_DEBUG", "1")
    monkeypatch.setattr(doctor, "examine", lambda: 1 // 0)
    assert cli.main(["doctor"]) == 255
    assert "Traceback" in capsys.readouterr().err


def test_the_doctor_ends_with_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing = doctor.Check("nft", False, "not found", "apt-get install nftables")
    monkeypatch.setattr(doctor, "examine", lambda: [missing])
    assert cli.main(["doctor"]) == 254
    assert "nft: apt-get install nftables\n" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 254
    assert json.loads(capsys.readouterr().out)["checks"][0]["remedy"] == "apt-get install nftables"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("unknown", 2)])
def test_a_test_ends_with_the_code_of_its_verdict(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
    code: int,
):
    seen = []

    async def run_test(spec: Spec, store: Path, *, repeated: None, keep_lab: bool, view: View) -> Outcome:
        view.phase("running the workload")
        seen.append((spec.name, spec.seed, spec.handoff.policy, store, keep_lab))
        return Outcome(
            verdict, {"verdict": verdict, "ops": 3, "anomalies": [], "reasons": ["a doubt"]}, tmp_path
        )

    controller = ModuleType("jepsen_blk.controller")
    controller.run_test = run_test
    monkeypatch.setitem(sys.modules, "jepsen_blk.controller", controller)
    monkeypatch.setattr(doctor, "PACKAGES", {})
    arguments = ["--name", "mine", "--seed", "9", "--handoff", "drain", "--keep-lab"]
    assert cli.main(["test", *arguments, "--store", str(tmp_path)]) == code
    assert seen == [("mine", 9, "drain", tmp_path, True)]
    said = capsys.readouterr()
    assert said.err == ""
    assert verdict.upper() in said.out
    assert "a doubt" in said.out


WAITING = """
import asyncio, sys
from types import ModuleType
from jepsen_blk import cli, doctor

async def run_test(spec, store, *, repeated, keep_lab, view):
    try:
        print("waiting", flush=True)
        await asyncio.Event().wait()
    finally:
        print("the lab is down", flush=True)

doctor.PACKAGES = {}
controller = sys.modules["jepsen_blk.controller"] = ModuleType("jepsen_blk.controller")
controller.run_test = run_test
sys.exit(cli.main(["test"]))
"""


def test_an_interrupted_test_takes_its_lab_down_and_says_one_line(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            for line in child.stdout:
                if line == "waiting\n":
                    child.send_signal(signal.SIGINT)
                    break
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, out, err) == (130, "the lab is down\n", "jepsen-blk: interrupted\n")
