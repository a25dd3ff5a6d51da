"""The set-up installs what is missing and nothing else, or says in one line what to install.

The script runs for real; apt-get, dpkg-query, id, sudo and the Pythons are stubs that note how
they were called.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from jepsen_blk.doctor import OPTIONAL, PACKAGES, PLUGIN_PACKAGE
from jepsen_blk.lab.local.tgt import ISCSI_PACKAGE

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "env", "dirname", "mkdir", "cat", "chmod")

# A Python that says whether it is usable, and makes a .venv with itself in it.
PYTHON = """
case "$2" in
*ensurepip*) exit {code} ;;
venv) mkdir -p .venv/bin && cat "$0" >.venv/bin/python && chmod +x .venv/bin/python ;;
esac
"""


class Machine:
    """A checkout with the set-up in it, on a machine made of stubs."""

    def __init__(self, root: Path) -> None:
        self.checkout = root / "checkout"
        self.bin = root / "bin"
        self.calls = root / "calls"
        (self.checkout / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        self.calls.touch()
        shutil.copy(ROOT / "scripts/setup", self.checkout / "scripts/setup")
        shutil.copy(ROOT / "debian-packages.txt", self.checkout)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.stub("apt-get", "")
        self.stub("sudo", "exit 1")
        self.python("python3", usable=True)

    def stub(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!{shutil.which("bash")}\necho "{name} $*" >>{self.calls}\n{body}\n')
        path.chmod(0o755)

    def python(self, name: str, *, usable: bool) -> None:
        self.stub(name, PYTHON.format(code=0 if usable else 1))

    def installed(self, *packages: str) -> None:
        known = "|".join(packages) or "none"
        self.stub("dpkg-query", f'case "$4" in {known}) echo -n installed ;; *) exit 1 ;; esac')

    def user(self, uid: int) -> None:
        self.stub("id", f"echo {uid}")

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "scripts/setup"), *arguments],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.split()[0] == name]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.installed()
    made.user(1000)
    return made


def packages(purpose: str | None = None) -> list[str]:
    lines = [line.split() for line in (ROOT / "debian-packages.txt").read_text().splitlines()]
    return [line[0] for line in lines if line and line[0] != "#" and purpose in (None, line[1])]


def test_every_package_is_listed_once_with_a_known_purpose():
    assert len(set(packages())) == len(packages())
    assert sorted(packages()) == sorted(packages("run") + packages("test") + packages("bench"))


def test_the_doctor_names_listed_packages_only():
    assert {*PACKAGES.values(), PLUGIN_PACKAGE} <= set(packages("run"))
    optional = {ISCSI_PACKAGE, *(package for package, _ in OPTIONAL.values())}
    assert optional == set(packages("test") + packages("bench"))


def test_no_other_file_lists_packages():
    for name in ("scripts/setup", "Makefile", ".ci/run"):
        assert "qemu" not in (ROOT / name).read_text()


def test_a_user_without_sudo_is_told_in_one_line_what_to_install(machine: Machine):
    done = machine.setup("run")
    assert done.returncode == 254
    (line,) = done.stderr.splitlines()
    assert line.endswith("sudo apt-get install -y --no-install-recommends " + " ".join(packages("run")))
    assert not machine.called("apt-get")


def test_root_installs_what_is_missing_after_an_update(machine: Machine):
    machine.user(0)
    machine.installed(*(package for package in packages("run") if package != "nftables"))
    done = machine.setup("run")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.called("apt-get") == [
        "apt-get update -qq",
        "apt-get install -y --no-install-recommends -qq nftables",
    ]


def test_sudo_is_used_where_it_asks_no_password(machine: Machine):
    machine.stub("sudo", 'shift; "$@"')
    done = machine.setup("all")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.called("apt-get")[-1].endswith(" -qq " + " ".join(packages()))


def test_a_user_without_sudo_needs_none_when_nothing_is_missing(machine: Machine):
    machine.installed(*packages())
    done = machine.setup("all")
    assert (done.returncode, done.stderr) == (0, "")
    assert not machine.called("apt-get")
    assert (machine.checkout / ".venv/bin/python").exists()


def test_a_python_that_cannot_be_used_is_passed_over(machine: Machine):
    machine.installed(*packages())
    machine.python("python3", usable=False)
    machine.python("python3.11", usable=True)
    assert machine.setup("run").returncode == 0
    assert any("-m venv" in call for call in machine.called("python3.11"))


def test_a_failed_update_fails_the_set_up(machine: Machine):
    machine.user(0)
    machine.stub("apt-get", "exit 100")
    assert machine.setup("run").returncode == 100


def test_an_unknown_extent_is_refused(machine: Machine):
    done = machine.setup("everything")
    assert (done.returncode, done.stderr) == (254, "setup: usage: scripts/setup run|all\n")
