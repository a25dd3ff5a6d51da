"""`jepsen-blk compare` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import PROGRAM, only_line, run

MATRIX = """
name = "mine"
seeds = 5
lab = ["sim"]
frontend = ["qemu"]
storage = ["ignore-second", "nbdkit-memory"]
policy = ["requeue", "drain"]
[base.workload]
blocks = 16
queue_depth = 2
[base.storage]
write_latency_ms = 10
"""


def matrix(folder: Path, text: str = MATRIX) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_comparison_ends_with_a_table_and_a_report_and_has_nothing_left_to_do_then(tmp_path: Path) -> None:
    done = run("compare", str(matrix(tmp_path)), "--jobs", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "comparing mine: 2 cells of 5 runs each",
        "left out: sim / qemu / nbdkit-memory / requeue / lost-path-migration and 1 more: lab 'sim'",
        "unsafe    sim / qemu / ignore-second / requeue / lost-path-migration: 5 of 5 runs failed",
        "safe      sim / qemu / ignore-second / drain / lost-path-migration: all 5 runs passed",
        "2 cells: 1 safe, 1 unsafe; 10 runs",
        "report  comparisons/mine/index.html",
    ):
        assert part in done.stdout, done.stdout
    folder = tmp_path / "comparisons" / "mine"
    assert (folder / "index.html").is_file()
    told = json.loads((folder / "comparison.json").read_text())
    repeat = told["cells"][0]["repeat"].split()
    assert repeat[:2] == ["jepsen-blk", "replay"]
    again = run(*repeat[1:], cwd=tmp_path)
    assert again.returncode == 1, again.stderr
    resumed = run("compare", str(matrix(tmp_path)), "--json", cwd=tmp_path)
    assert json.loads(resumed.stdout) == told
    assert "10 runs are there from before" in resumed.stderr


def test_a_cell_that_stays_unknown_is_told_by_the_exit_code(tmp_path: Path) -> None:
    text = MATRIX.replace('policy = ["requeue", "drain"]', 'policy = ["drain"]')
    path = matrix(tmp_path, f"{text}[base.handoff]\ntimeout_s = 0.05\n")
    done = run("compare", str(path), "--seeds", "2", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "1 cell: 1 unknown" in done.stdout
    told = json.loads((tmp_path / "comparisons" / "mine" / "comparison.json").read_text())
    [why] = told["cells"][0]["why_unknown"]
    assert "drain: x still has writes in flight after 0.05 s" in why


def test_what_would_be_run_is_listed_and_nothing_is_made(tmp_path: Path) -> None:
    done = run("compare", str(matrix(tmp_path)), "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "2 cells, 5 runs each, 10 in all at most" in done.stdout
    told = json.loads(run("compare", str(matrix(tmp_path)), "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (len(told["cells"]), len(told["skipped"]), told["most_runs"]) == (2, 2, 10)
    table = run("compare", "--builtin", "truth-table", "--dry-run", cwd=tmp_path)
    assert "135 cells, 100 runs each, 13500 in all at most" in table.stdout
    assert not (tmp_path / "comparisons").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either a matrix file or --builtin NAME"),
        (["nothing.toml"], "nothing.toml: cannot read the matrix"),
        (["--builtin", "truth"], "no matrix 'truth'; there are truth-table, lab-table, stock-table"),
        (["mine.toml", "--rerun", "bad"], "--rerun: no choice 'bad'; there are unknown, failed, all"),
        (["mine.toml", "--seeds", "0"], "mine.toml: seeds: Input should be greater than or equal to 1"),
        (["mine.toml", "--cluster", "x", "--jobs", "2"], "--jobs: the workers of a cluster say"),
    ],
    ids=str,
)
def test_a_mistake_of_the_command_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    matrix(tmp_path)
    assert said in only_line(run("compare", *arguments, cwd=tmp_path), 254)


def test_ctrl_c_keeps_what_there_is_and_says_how_to_go_on(tmp_path: Path) -> None:
    text = MATRIX.replace("seeds = 5", "seeds = 500")
    argv = [str(PROGRAM), "compare", str(matrix(tmp_path, text)), "--jobs", "1"]
    rows = tmp_path / "comparisons" / "mine" / "rows.jsonl"
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "`jepsen-blk compare " in out
    assert "goes on" in out
    assert err == "jepsen-blk: interrupted\n"
    told = json.loads((rows.parent / "comparison.json").read_text())
    assert sum(cell["runs"] for cell in told["cells"]) >= 3


def test_without_the_extra_a_cluster_is_named_as_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('not there')")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = run("compare", str(matrix(tmp_path)), "--cluster", "tcp://127.0.0.1:1", cwd=tmp_path, env=env)
    assert done.returncode == 254
    assert "pip install 'jepsen-blk[cluster]'" in done.stderr


def test_the_verb_is_quick_to_ask_for_help() -> None:
    code = "import sys, jepsen_blk.cli.compare; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
