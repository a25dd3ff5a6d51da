"""The doctor names what is missing and its remedy, in one line where a test cannot start."""

import json
import shutil
from pathlib import Path

import pytest

from jepsen_blk import doctor
from jepsen_blk.doctor import Check, is_fit, namespaces_remedy, require_runnable, to_json
from jepsen_blk.errors import UserError


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a stub of every command of a test, and 2 GB of memory."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for command in doctor.PACKAGES:
        (folder / command).write_text(f"#!{shutil.which('true')}\n")
        (folder / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    memory(2048, tmp_path, monkeypatch)
    return folder


def memory(available_mb: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {available_mb * 1024} kB\n")
    monkeypatch.setattr(doctor, "_MEMINFO", tmp_path / "meminfo")


def test_a_machine_with_everything_can_run_a_test(tools: Path):
    require_runnable(160)


def test_all_that_is_missing_is_in_one_line_with_one_remedy(tools: Path, monkeypatch: pytest.MonkeyPatch):
    for command in ("nft", "ss", "ip"):
        (tools / command).unlink()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UserError) as caught:
        require_runnable(160)
    assert str(caught.value) == "nft, ip, ss: not installed; run `sudo apt-get install nftables iproute2`"


def test_root_is_told_to_install_without_sudo(tools: Path, monkeypatch: pytest.MonkeyPatch):
    (tools / "nbdkit").unlink()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UserError, match="run `apt-get install nbdkit`"):
        require_runnable(160)


def test_an_nbdkit_without_its_python_plugin_is_found_out(tools: Path):
    (tools / "nbdkit").write_text(f"#!{shutil.which('false')}\n")
    with pytest.raises(UserError, match=r"nbdkit's Python plugin: .*nbdkit-plugin-python"):
        require_runnable(160)


def test_too_little_memory_says_how_much_and_what_to_lower(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    memory(300, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"300 MB are available .*160 MB need 704 MB.*guest\.memory_mb"):
        require_runnable(160)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_the_remedy(
    tmp_path: Path, setting: str, value: str, remedy: str
):
    (tmp_path / setting).parent.mkdir()
    (tmp_path / setting).write_text(value + "\n")
    assert namespaces_remedy(tmp_path) == remedy


def test_where_no_setting_forbids_namespaces_a_container_does(tmp_path: Path):
    assert namespaces_remedy(tmp_path).startswith("in a container")


def test_every_check_that_fails_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    memory(100, tmp_path, monkeypatch)
    monkeypatch.setattr(doctor, "_LEAST_DISK_MB", 1 << 40)
    checks = doctor.examine()
    assert not is_fit(checks)
    failed = {check.name for check in checks if not check.ok}
    assert {"qemu-system-x86_64", "namespaces", "nft works", "ss -K works", "memory", "cache"} <= failed
    assert all(check.remedy for check in checks if not check.ok)
    assert not any(check.remedy for check in checks if check.ok)


def test_what_is_optional_keeps_no_machine_from_running():
    assert is_fit([Check("chromium", False, "not found", "apt-get install chromium", optional=True)])
    assert not is_fit([Check("nft", False, "not found", "apt-get install nftables")])


def test_the_checks_are_one_json_object(tools: Path):
    checks = [Check("nft", True, "/usr/sbin/nft")]
    assert json.loads(json.dumps(to_json(checks))) == {
        "ok": True,
        "checks": [{"name": "nft", "ok": True, "detail": "/usr/sbin/nft", "remedy": "", "optional": False}],
    }
