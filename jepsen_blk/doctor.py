"""The doctor: can this machine run a test, and if not, what exactly has to be done?

What a test needs is asked for by function wherever a presence proves nothing: a kernel may forbid
namespaces, lack nft, or refuse to kill a socket. `require_runnable` is the quick part, asked before
every test; `examine` is the whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from jepsen_blk.errors import UserError
from jepsen_blk.lab.local.accelerator import probe
from jepsen_blk.lab.local.packages import cache_dir
from jepsen_blk.lab.local.tgt import ISCSI_PACKAGE, TGT_PACKAGE, has_iscsi_driver

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "nbdkit": "nbdkit",
    "nft": "nftables",
    "ip": "iproute2",
    "ss": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "sysctl": "procps",
}
"""The commands of a test, and the Debian package of each (all of them in debian-packages.txt)."""
PLUGIN = "nbdkit's Python plugin"
PLUGIN_PACKAGE = "nbdkit-plugin-python"
OPTIONAL = {
    "tgtd": (TGT_PACKAGE, "storage.kind = tgt"),
    "fio": ("fio", "make bench"),
    "chromium": ("chromium", "make test"),
    "qemu-io": ("qemu-utils", "make test"),
    "qemu-img": ("qemu-utils", "make test"),
    "sshd": ("openssh-server", "make test"),
}
"""Commands that a test does without: the Debian package of each, and what wants it."""

_LEAST_MEMORY_MB = 1024
_LEAST_DISK_MB = 1024
_HARNESS_MB = 384
"""What a test takes beside the guest's memory: QEMU's own and its translated code, storage, controller."""
_TIMEOUT_S = 20.0
_UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--net", "--pid", "--mount-proc"),
    *("--fork", "--kill-child", "--"),
)
_CACHE_REMEDY = "set XDG_CACHE_HOME to a directory that can be written"
_MEMINFO = Path("/proc/meminfo")
_SYSCTLS = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "15000"),
)
"""Settings that forbid namespaces to a user: the file under /proc/sys, the value that does, the remedy's."""
_KILL_A_SOCKET = """
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=5)
kill = ["ss", "-K", "-H", "-t", "state", "established", "src", "127.0.0.1"]
subprocess.run(kill, stdout=subprocess.DEVNULL)
try:
    client.send(b"x")
except OSError:
    raise SystemExit(0)
raise SystemExit("the socket is alive after ss -K")
"""


@dataclass(frozen=True, slots=True)
class Check:
    """What one thing was found to be; `remedy` is a command or one clause, empty where nothing is wrong."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    optional: bool = False


def require_runnable(memory_mb: int) -> None:
    """Return quickly if a test with a guest of `memory_mb` can start here.

    Raises UserError: one line with everything that is missing, and the remedy.
    """
    missing = what_is_missing()
    if missing:
        raise UserError(missing)
    require_memory(memory_mb)


def what_is_missing() -> str:
    """Say which commands of a test are not installed, and the remedy; nothing if all are."""
    missing = [command for command in PACKAGES if shutil.which(command) is None]
    packages = [PACKAGES[command] for command in missing]
    if "nbdkit" not in missing and not _run(["nbdkit", "python", "--dump-plugin"]).ok:
        missing.append(PLUGIN)
        packages.append(PLUGIN_PACKAGE)
    return f"{', '.join(missing)}: not installed; run `{install_line(packages)}`" if missing else ""


def require_memory(memory_mb: int) -> None:
    """Raise UserError if there is not the memory for two guests of `memory_mb`."""
    needed = 2 * memory_mb + _HARNESS_MB
    available = available_memory_mb()
    if available < needed:
        raise UserError(
            f"memory: {available} MB are available and two guests of {memory_mb} MB need {needed} MB; "
            "free some, or lower guest.memory_mb in the specification"
        )


def examine() -> list[Check]:
    """Return every check, in the order in which a remedy helps the next."""
    return [
        _python(),
        *(_command(command, package) for command, package in PACKAGES.items()),
        _plugin(),
        _namespaces(),
        _in_namespace("nft", ["nft", "add", "table", "ip", "doctor"], "the kernel needs nf_tables"),
        _in_namespace(
            "ss -K",
            [sys.executable, "-I", "-S", "-c", _KILL_A_SOCKET],
            "the kernel needs CONFIG_INET_DIAG_DESTROY",
        ),
        _image_tools(),
        _memory(),
        *_disks(),
        _accelerator(),
        *(_command(command, package, wanted_by) for command, (package, wanted_by) in OPTIONAL.items()),
        _iscsi_driver(),
    ]


def is_fit(checks: Iterable[Check]) -> bool:
    """Tell whether nothing that a test needs is wrong."""
    return all(check.ok or check.optional for check in checks)


def table(checks: Iterable[Check]) -> Table:
    """Lay the checks out for a terminal."""
    rows = Table("check", "", "found", box=None, pad_edge=False)
    for check in checks:
        mark = "ok" if check.ok else "optional" if check.optional else "MISSING"
        style = "green" if check.ok else "yellow" if check.optional else "bold red"
        rows.add_row(check.name, f"[{style}]{mark}[/]", check.detail)
    return rows


def to_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as one JSON object."""
    return {"ok": is_fit(checks), "checks": [asdict(check) for check in checks]}


def install_line(packages: Iterable[str]) -> str:
    """Return the command that installs the packages, as this user has to type it."""
    prefix = "" if os.geteuid() == 0 else "sudo "
    return f"{prefix}apt-get install {' '.join(dict.fromkeys(packages))}"


def available_memory_mb() -> int:
    """Return what the kernel says can be used without swapping, in MB."""
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise UserError(f"{_MEMINFO}: has no MemAvailable; a Linux kernel is needed")


@dataclass(frozen=True, slots=True)
class _Done:
    ok: bool
    said: str


def _run(argv: Sequence[str]) -> _Done:
    """Run a probe to its end; what it said is the last line of stderr or of stdout."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except OSError as error:
        return _Done(False, f"{argv[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return _Done(False, f"{argv[0]}: no answer within {_TIMEOUT_S:g} s")
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return _Done(done.returncode == 0, lines[-1] if lines else f"ended with {done.returncode}")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    new_enough = sys.version_info >= (3, 11)
    remedy = "" if new_enough else "set PYTHON to one of 3.11 or later and run `make setup`"
    return Check("Python", new_enough, f"{version}, {sys.executable}", remedy)


def _command(command: str, package: str, wanted_by: str = "") -> Check:
    found = shutil.which(command)
    remedy = "" if found else install_line([package])
    absent = f"not found; `{wanted_by}` uses it" if wanted_by else "not found"
    return Check(command, found is not None, found or absent, remedy, optional=bool(wanted_by))


def _plugin() -> Check:
    done = _run(["nbdkit", "python", "--dump-plugin"])
    if done.ok:
        return Check(PLUGIN, True, "loads")
    return Check(PLUGIN, False, done.said, install_line(["nbdkit", PLUGIN_PACKAGE]))


def _iscsi_driver() -> Check:
    name = "QEMU's iSCSI driver"
    if has_iscsi_driver():
        return Check(name, True, "loads", optional=True)
    detail = "not found; `storage.kind = tgt` uses it"
    return Check(name, False, detail, install_line([ISCSI_PACKAGE]), optional=True)


def _namespaces() -> Check:
    done = _run([*_UNSHARE, "true"])
    if done.ok:
        return Check("namespaces", True, "user, network, process and mount namespaces can be made")
    return Check("namespaces", False, done.said, namespaces_remedy(Path("/proc/sys")))


def namespaces_remedy(sysctls: Path) -> str:
    """Say what lets a user make namespaces, by the settings under `sysctls`."""
    for name, forbids, allows in _SYSCTLS:
        setting = sysctls / name
        if setting.is_file() and setting.read_text().strip() == forbids:
            return f"sysctl -w {name.replace('/', '.')}={allows}"
    options = " ".join(f"--security-opt {name}=unconfined" for name in ("seccomp", "apparmor", "systempaths"))
    return f"in a container, start it with {options}"


def _in_namespace(name: str, argv: Sequence[str], remedy: str) -> Check:
    done = _run([*_UNSHARE, *argv])
    if done.ok:
        return Check(f"{name} works", True, "in a namespace of its own")
    return Check(f"{name} works", False, done.said, remedy)


def _image_tools() -> Check:
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        return Check(
            "guest image",
            False,
            f"{', '.join(missing)} not found",
            "build the image on Debian 12 and copy its cache here",
        )
    return Check("guest image", True, "apt-get and dpkg-deb are there to build it")


def _memory() -> Check:
    available = available_memory_mb()
    enough = available >= _LEAST_MEMORY_MB
    remedy = "" if enough else f"free memory: a test needs about {_LEAST_MEMORY_MB} MB"
    return Check("memory", enough, f"{available} MB available", remedy)


def _disks() -> list[Check]:
    try:
        cache = cache_dir()
    except UserError as error:
        return [Check("cache", False, str(error), _CACHE_REMEDY)]
    return [_disk("cache", cache), _disk("temporary files", Path(tempfile.gettempdir()))]


def _disk(name: str, path: Path) -> Check:
    free = shutil.disk_usage(path).free // 2**20
    enough = free >= _LEAST_DISK_MB
    remedy = "" if enough else f"free {_LEAST_DISK_MB} MB in {path}"
    return Check(name, enough, f"{free} MB free in {path}", remedy)


def _accelerator() -> Check:
    try:
        found = probe()
    except UserError as error:
        return Check("accelerator", False, str(error), _CACHE_REMEDY)
    return Check("accelerator", True, f"{found.name}: {found.why}")
