"""Debian packages for the guest: downloaded and unpacked into a cache, never installed on the host.

Everything a guest is made of (kernel, busybox, Python, C library) comes from the distribution's own
signed packages through `apt-get download`, so an ordinary user can build the image.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jepsen_blk.errors import UserError

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
GUEST_PACKAGES = (
    "busybox-static",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libexpat1",
    "libffi8",
    "zlib1g",
)
_DOWNLOAD_TIMEOUT_S = 300


def cache_dir() -> Path:
    """Return the cache of this user, made if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "jepsen-blk"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot make the cache: {error.strerror}; set XDG_CACHE_HOME") from error
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, so that two runs never build the same thing at once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unpacked(packages: Sequence[str], into: str) -> Path:
    """Return the cached tree of the packages, downloaded and unpacked if it is missing.

    Raises UserError with the remedy when a package cannot be had.
    """
    tree = cache_dir() / into
    with locked(cache_dir() / f"{into}.lock"):
        if tree.is_dir():
            return tree
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f"{into}.") as scratch:
            work = Path(scratch)
            root = work / "root"
            root.mkdir()
            _command(["apt-get", "download", *packages], cwd=work, what=" ".join(packages))
            for package in sorted(work.glob("*.deb")):
                _command(["dpkg-deb", "-x", str(package), str(root)], cwd=work, what=package.name)
            root.rename(tree)
    return tree


def kernel_package() -> str:
    """Return the name of the newest kernel package that the metapackage stands for."""
    done = _command(["apt-cache", "depends", KERNEL_METAPACKAGE], cwd=Path("/"), what=KERNEL_METAPACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", done)
    if not found:
        raise UserError(
            f"package {KERNEL_METAPACKAGE} is not known here: run `apt-get update`, "
            "or give a kernel of your own as guest.kernel in the specification"
        )
    return found.group(1)


def _command(argv: Sequence[str], *, cwd: Path, what: str) -> str:
    if shutil.which(argv[0]) is None:
        raise UserError(
            f"{argv[0]} is missing: the guest image is built from Debian packages on a Debian host"
        )
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{argv[0]} took more than {_DOWNLOAD_TIMEOUT_S} s for {what}") from error
    if done.returncode != 0:
        why = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise UserError(
            f"cannot get {what}: {' '.join(why[:1]) or 'no reason given'}; "
            "run `apt-get update` and see that the package sources can be reached"
        )
    return done.stdout
