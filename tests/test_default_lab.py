"""Which lab a test runs on that does not say: real guests where they can be had, else a simulation."""

import shutil
from pathlib import Path

import pytest
from command_line import run

from jepsen_blk import default_lab, doctor
from jepsen_blk.default_lab import choose_lab, parse_lab, settle_lab
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, EXIT_USER, SpecError, UserError
from jepsen_blk.spec import load_spec, make_spec

FOUNDING = ("--conflict", "ignore-second", "--nemesis", "lost-path-migration")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "what_is_missing", lambda: "")


@pytest.mark.usefixtures("all_installed")
def test_real_guests_are_the_first_choice_and_need_no_word(said: list[str]) -> None:
    assert settle_lab(make_spec({}), said.append).lab == "local"
    assert said == []


@pytest.mark.usefixtures("nothing_installed")
def test_without_qemu_a_test_that_does_not_say_is_simulated_and_the_reason_is_said(said: list[str]) -> None:
    assert settle_lab(make_spec({}), said.append).lab == "sim"
    (line,) = said
    assert line.startswith("lab sim, a simulation: there are no real guests here (qemu-system-x86_64")
    assert "apt-get install" in line


@pytest.mark.usefixtures("nothing_installed")
def test_a_lab_that_was_named_is_not_replaced(said: list[str]) -> None:
    with pytest.raises(UserError, match=r"qemu-system-x86_64.*not installed"):
        settle_lab(make_spec({"lab": "local"}), said.append)
    assert settle_lab(make_spec({"lab": "sim"}), said.append).lab == "sim"
    assert said == []


def test_where_there_is_no_linux_a_test_is_simulated(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_lab.sys, "platform", "darwin")
    assert choose_lab(None, 160, said.append) == "sim"
    assert said == [
        "lab sim, a simulation: there are no real guests here (the local lab needs Linux)",
    ]


@pytest.mark.usefixtures("all_installed")
def test_too_little_memory_is_an_error_and_no_reason_to_simulate(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 102400 kB\n")
    monkeypatch.setattr(doctor, "_MEMINFO", tmp_path / "meminfo")
    with pytest.raises(UserError, match="memory: 100 MB are available"):
        choose_lab(None, 160, said.append)


def test_a_lab_that_there_is_not_is_refused_with_the_choices() -> None:
    assert (parse_lab(None), parse_lab("sim")) == (None, "sim")
    with pytest.raises(UserError, match="--lab: no lab 'simm'; there are local, sim; did you mean 'sim'"):
        parse_lab("simm")


def test_a_wrong_lab_is_refused_also_where_scenarios_are_only_listed(tmp_path: Path) -> None:
    done = run("scenarios", "--lab", "simm", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (EXIT_USER, "")
    assert "--lab: no lab 'simm'" in done.stderr


def test_xens_frontend_is_simulated_unless_a_real_lab_is_named() -> None:
    assert make_spec({"guest": {"frontend": "blkfront"}}).lab == "sim"
    with pytest.raises(SpecError, match="'blkfront' needs lab = 'sim'"):
        make_spec({"lab": "local", "guest": {"frontend": "blkfront"}})


def test_what_was_chosen_is_in_the_stored_specification(tmp_path: Path) -> None:
    done = run("test", *FOUNDING, cwd=tmp_path, env={"PATH": ""})
    assert done.returncode == EXIT_FAIL
    assert done.stderr.startswith("lab sim, a simulation: ")
    assert load_spec(tmp_path / "store/latest/spec.toml").lab == "sim"


def test_the_demonstration_shows_what_the_simulator_can_and_names_what_it_cannot(tmp_path: Path) -> None:
    done = run("demo", "--lab", "sim", cwd=tmp_path, env={"PATH": ""})
    assert done.returncode == EXIT_PASS, done.stdout
    assert "left out: lab 'sim' cannot do storage.kind 'nbdkit-memory'" in done.stdout
    assert "2 tests in" in done.stdout
    assert "every verdict is as it must be" in done.stdout
