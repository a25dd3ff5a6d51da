"""The accelerator is chosen by what a guest did, never by what /dev/kvm looks like."""

import sys
from pathlib import Path

import pytest

from jepsen_blk.errors import UserError
from jepsen_blk.lab.local import accelerator
from jepsen_blk.lab.local.accelerator import Accelerator, choose, judge, probe


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KVM device that opens, a cache of its own, and a boot."""
    (tmp_path / "kvm").touch()
    (tmp_path / "boot_id").write_text("boot-1\n")
    monkeypatch.setattr(accelerator, "_DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(accelerator, "_BOOT_ID", tmp_path / "boot_id")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kvm"


def answer(monkeypatch: pytest.MonkeyPatch, *answers: float | str) -> list[float | str]:
    left = list(answers)
    monkeypatch.setattr(accelerator, "_run_microguest", lambda argv: left.pop(0))
    return left


def test_a_fast_loop_is_kvm_and_a_slow_one_is_tcg():
    assert judge(0.2).name == "kvm"
    slow = judge(110.0)
    assert slow.name == "tcg"
    assert "110 ms" in slow.why


def test_a_kvm_that_refuses_a_call_is_tcg_with_its_reason():
    assert judge("[Errno 22] Invalid argument") == Accelerator(
        "tcg", "/dev/kvm runs no guest: [Errno 22] Invalid argument"
    )


def test_without_the_device_nothing_is_run(device: Path, monkeypatch: pytest.MonkeyPatch):
    device.unlink()
    answer(monkeypatch)
    assert probe().name == "tcg"
    assert "does not exist" in probe().why


def test_the_micro_guest_runs_once_a_boot(device: Path, monkeypatch: pytest.MonkeyPatch):
    left = answer(monkeypatch, 110.0, 0.2)
    assert probe() == probe()
    assert left == [0.2]
    device.with_name("boot_id").write_text("boot-2\n")
    assert probe().name == "kvm"


@pytest.mark.parametrize("kept", ["", "[]", '{"boot_id":"boot-1"}', "{"])
def test_a_damaged_cache_is_probed_again(device: Path, monkeypatch: pytest.MonkeyPatch, kept: str):
    cache = device.parent / "jepsen-blk"
    cache.mkdir()
    (cache / "accelerator.json").write_text(kept)
    answer(monkeypatch, 0.2)
    assert probe().name == "kvm"


def test_a_child_that_hangs_is_killed_and_counts_as_no_kvm():
    said = accelerator._run_microguest([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)
    assert said == "the micro-guest hung for 0.2 s"


def test_a_child_that_fails_gives_its_last_line():
    script = "import sys; sys.exit('one\\ntwo')"
    assert accelerator._run_microguest([sys.executable, "-c", script]) == "two"


def test_kvm_asked_for_and_not_usable_is_the_users_to_mend(device: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, 110.0)
    with pytest.raises(UserError, match=r"guest\.accelerator is kvm, but .*110 ms.*use auto or tcg"):
        choose("kvm")


def test_auto_falls_back_to_tcg(device: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, "Operation not permitted")
    assert choose("auto").name == "tcg"


def test_tcg_asked_for_is_never_probed(monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch)
    assert choose("tcg").name == "tcg"
