"""The store never loses a run to a name, and `latest` is never missing once there was a run."""

import os
from pathlib import Path

import pytest

from jepsen_blk import store as store_module
from jepsen_blk.errors import UserError
from jepsen_blk.store import find_run, latest, new_run, require_store


def test_a_run_has_its_logs_and_is_the_latest(tmp_path: Path):
    run = new_run(tmp_path / "store", "register")
    assert (run / "logs").is_dir()
    assert run.parent == tmp_path / "store/register"
    assert latest(tmp_path / "store") == run.resolve()


def test_latest_is_a_relative_link_so_that_a_store_can_be_moved(tmp_path: Path):
    new_run(tmp_path / "store", "register")
    (tmp_path / "store").rename(tmp_path / "moved")
    assert latest(tmp_path / "moved").parent == tmp_path.resolve() / "moved/register"


def test_runs_of_the_same_second_have_directories_of_their_own(tmp_path: Path):
    runs = [new_run(tmp_path, "register") for _ in range(5)]
    assert len(set(runs)) == 5
    assert latest(tmp_path) == runs[-1].resolve()


def test_where_no_link_can_be_made_latest_is_a_file_that_is_followed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    runs = [new_run(tmp_path / "store", "register") for _ in range(2)]
    assert (tmp_path / "store/latest").is_file()
    (tmp_path / "store").rename(tmp_path / "moved")
    assert latest(tmp_path / "moved").name == runs[-1].name
    (latest(tmp_path / "moved") / "history.blk").touch()
    assert find_run(tmp_path / "moved/latest") == latest(tmp_path / "moved")


def test_a_stale_scratch_link_does_not_keep_a_run_from_being_the_latest(tmp_path: Path):
    (tmp_path / f".latest.{os.getpid()}").symlink_to("gone")
    run = new_run(tmp_path, "register")
    assert latest(tmp_path) == run.resolve()


def test_a_store_that_is_a_file_is_named_with_the_option(tmp_path: Path):
    (tmp_path / "store").write_text("")
    for attempt in (require_store, lambda store: new_run(store, "register")):
        with pytest.raises(UserError, match=r"store .*/store: cannot write there: .*--store"):
            attempt(tmp_path / "store")


def test_a_store_that_cannot_be_written_is_named_with_the_option():
    for attempt in (require_store, lambda store: new_run(store, "register")):
        with pytest.raises(UserError, match=r"store /proc/jepsen: cannot write there: .*--store"):
            attempt(Path("/proc/jepsen"))


def test_asking_for_a_store_leaves_it_empty(tmp_path: Path):
    require_store(tmp_path / "a/store")
    assert not list((tmp_path / "a/store").iterdir())


def test_the_name_of_the_link_is_no_name_for_a_test(tmp_path: Path):
    with pytest.raises(UserError, match="give another name"):
        new_run(tmp_path, "latest")


def test_a_second_with_too_many_runs_is_an_error_and_not_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store_module, "_MOST_RUNS_A_SECOND", 2)
    store_module._claim(tmp_path, "20240101T000000Z")
    with pytest.raises(UserError, match="runs in one second"):
        store_module._claim(tmp_path, "20240101T000000Z")


def test_an_empty_store_has_no_latest_run(tmp_path: Path):
    with pytest.raises(UserError, match="no run yet"):
        latest(tmp_path)


def test_a_run_is_found_by_its_journal_through_the_link(tmp_path: Path):
    run = new_run(tmp_path, "register")
    with pytest.raises(UserError, match=r"not a run: it has no history\.blk"):
        find_run(tmp_path / "latest")
    (run / "history.blk").write_bytes(b"")
    assert find_run(tmp_path / "latest") == run.resolve()
