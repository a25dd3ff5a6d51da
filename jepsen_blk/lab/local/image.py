"""The guest image: a Debian kernel and an initramfs with busybox, a trimmed Python and the agent.

Built on the user's machine, cached by what goes into it, so that a change of the agent rebuilds it
and nothing else does. The standard library is trimmed by asking the guest's own Python which files
the imports of the agent, and those open to a workload of another package, load, and stored as
bytecode: 10 MB instead of 40, and a second less of boot.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jepsen_blk
import workloads
from jepsen_blk.errors import LabError, UserError
from jepsen_blk.lab.local.packages import GUEST_PACKAGES, cache_dir, kernel_package, locked, unpacked
from workloads.source import MODULES

_MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
)
"""In order of insertion: each needs those before it."""
_INIT = Path(__file__).with_name("guest-init.sh")
_PACKAGE = Path(jepsen_blk.__file__).parent
_AGENT = Path(workloads.__file__).parent / "agent"
_BUILD_TIMEOUT_S = 120
_KEEP = 6
_TRACE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None)
    if path:
        print(path)
"""
_LOADED = (
    "workloads.agent.__main__",
    "workloads.agent.aio",
    "runpy",
    "encodings.ascii",
    "encodings.latin_1",
    "traceback",
    *MODULES,
)
_COMPILE = """
import py_compile, sys
for line in sys.stdin:
    source, target = line.rstrip("\\n").split("\\t")
    shown = "/" + target.partition("/tree/")[2].removesuffix("c")
    py_compile.compile(source, target, shown, True, 0, py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What QEMU boots; `key` names its inputs."""

    kernel: Path
    initramfs: Path
    key: str


@dataclass(frozen=True, slots=True)
class Extra:
    """What a special image has beside the agent: `add` is given the tree before it is packed."""

    name: str
    add: Callable[[Path], None]


def ensure_image(kernel: Path | None = None, extra: Extra | None = None) -> GuestImage:
    """Return the image, built if it is missing or its inputs have changed.

    `kernel`: a bzImage of the user's own that has the virtio drivers built in. `extra` makes another
    image, with more in it.
    Raises UserError when packages cannot be had, LabError when the build fails.
    """
    base = unpacked(GUEST_PACKAGES, "guest-packages")
    modules = None if kernel else _kernel_tree()
    if kernel is None and modules is not None:
        kernel = next((modules / "boot").glob("vmlinuz-*"))
    if kernel is None or not kernel.is_file():
        raise UserError(f"{kernel}: no such kernel; give a bzImage as guest.kernel")
    key = _key(kernel, extra)
    initramfs = cache_dir() / f"initramfs-{key}.cpio"
    with locked(cache_dir() / "initramfs.lock"):
        if not initramfs.exists():
            for left in cache_dir().glob("build.*"):  # of a builder that was killed: we hold its lock
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="build.") as scratch:
                tree = Path(scratch) / "tree"
                _lay_out(tree, base, modules, extra)
                _pack(tree, base, initramfs)
            _forget_oldest()
        initramfs.touch()
    return GuestImage(kernel, initramfs, key)


def _kernel_tree() -> Path:
    """The kernel's tree: the cached one if there is one, so that an image once built needs no network."""
    cached = sorted(cache_dir().glob("linux-image-*/"))
    if cached:
        return cached[-1]
    package = kernel_package()
    return unpacked([package], package)


def _key(kernel: Path, extra: Extra | None) -> str:
    digest = hashlib.sha256(f"{kernel}:{kernel.stat().st_size}:{kernel.stat().st_mtime_ns}".encode())
    for path in (
        _INIT,
        Path(__file__),
        _PACKAGE / "__init__.py",
        _PACKAGE / "stamp.py",
        *sorted(_AGENT.glob("*.py")),
    ):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(" ".join(_LOADED).encode())
    return digest.hexdigest()[:16] + (f"-{extra.name}" if extra else "")


def _lay_out(tree: Path, base: Path, modules: Path | None, extra: Extra | None) -> None:
    for folder in ("bin", "dev", "proc", "sys", "lib/modules", "usr/bin", "lib64", "tmp", "opt/jepsen-blk"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(base / "bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copy(_INIT, tree / "init")
    (tree / "init").chmod(0o755)
    order = _MODULES if modules else ()
    for name in order:
        found = next((modules or base).rglob(f"{name}.ko"), None)
        if found is None:
            raise LabError(f"the kernel package has no module {name}")
        shutil.copy(found, tree / f"lib/modules/{name}.ko")
    (tree / "lib/modules/order").write_text("".join(f"{name}\n" for name in order))
    _lay_out_agent(tree)
    _lay_out_python(tree, base)
    if extra:
        extra.add(tree)


def _lay_out_agent(tree: Path) -> None:
    home = tree / "opt/jepsen-blk"
    sources = {
        "jepsen_blk/__init__.py": _PACKAGE / "__init__.py",
        "jepsen_blk/stamp.py": _PACKAGE / "stamp.py",
        "workloads/__init__.py": _AGENT.parent / "__init__.py",
        **{f"workloads/agent/{path.name}": path for path in _AGENT.glob("*.py")},
    }
    for name, source in sources.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, home / name)


def _lay_out_python(tree: Path, base: Path) -> None:
    """Copy the interpreter, the modules that the agent loads (as bytecode) and the shared libraries."""
    home = tree / "opt/jepsen-blk"
    loaded = [Path(line) for line in _guest_python(base, _TRACE, home, _LOADED).splitlines()]
    jobs: list[str] = []
    libraries = {base / "usr/bin/python3.11"}
    for path in loaded:
        inside = path.relative_to(base if path.is_relative_to(base) else tree)
        target = tree / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            jobs.append(f"{path}\t{target}c\n")
        else:
            shutil.copy(path, target)
            libraries.add(path)
    (tree / "usr/lib/python3.11/lib-dynload").mkdir(parents=True, exist_ok=True)
    _guest_python(base, _COMPILE, home, stdin="".join(jobs))
    for source in home.rglob("*.py"):
        source.unlink()
    shutil.copy(base / "usr/bin/python3.11", tree / "usr/bin/python3.11")
    for library in sorted(libraries):
        copy_libraries(tree, library, base)


def copy_libraries(tree: Path, binary: Path, base: Path) -> None:
    """Copy the loader and the shared libraries of `binary` from `base` to where the guest looks for them."""
    loader = _loader(base)
    shutil.copy(loader, tree / "lib64/ld-linux-x86-64.so.2")
    listed = _run([str(loader), "--library-path", _library_path(base), "--list", str(binary)])
    target = tree / "lib/x86_64-linux-gnu"
    target.mkdir(parents=True, exist_ok=True)
    for line in listed.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if name.startswith("/"):
            continue  # the loader lists itself by its path on the host: it is in place already
        if arrow and rest.startswith("/"):
            shutil.copy(rest.rpartition(" (")[0], target / name)
        elif "not found" in line:
            raise LabError(f"{binary.name}: shared library {name} is in none of the guest's packages")


def _guest_python(base: Path, script: str, path: Path, arguments: Sequence[str] = (), stdin: str = "") -> str:
    argv = [str(_loader(base)), "--library-path", _library_path(base), str(base / "usr/bin/python3.11")]
    env = {"PYTHONHOME": str(base / "usr"), "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return _run([*argv, "-P", "-S", "-c", script, *arguments], env=env, stdin=stdin)


def _loader(base: Path) -> Path:
    return base / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def _library_path(base: Path) -> str:
    folders = [base / "lib/x86_64-linux-gnu", base / "usr/lib/x86_64-linux-gnu"]
    nested = [path for folder in folders for path in sorted(folder.glob("*/")) if path.name == "ceph"]
    return ":".join(str(folder) for folder in (*folders, *nested))


def _pack(tree: Path, base: Path, target: Path) -> None:
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    scratch = target.with_suffix(".new")
    with scratch.open("wb") as output:
        done = subprocess.run(
            [str(base / "bin/busybox"), "cpio", "-o", "-H", "newc", "-R", "0:0"],
            cwd=tree,
            input=names.encode(),
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"cannot pack the guest image: {done.stderr.decode(errors='replace').strip()}")
    os.replace(scratch, target)


def _forget_oldest() -> None:
    """Keep the images last used: another test may be about to boot one of them."""
    images = sorted(cache_dir().glob("initramfs-*.cpio"), key=lambda path: path.stat().st_mtime)
    for old in images[:-_KEEP]:
        old.unlink(missing_ok=True)


def _run(argv: list[str], env: dict[str, str] | None = None, stdin: str = "") -> str:
    done = subprocess.run(
        argv, env=env, input=stdin, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise LabError(f"building the guest image: {done.stderr.strip().splitlines()[-1:] or argv}")
    return done.stdout
