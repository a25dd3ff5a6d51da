"""What `storage.kind = "tgt"` needs of the machine beside a lab: tgtd, and QEMU's own iSCSI initiator.

Debian has each in a package of its own, and QEMU says only when it opens a disk that it has no driver for it.
"""

from __future__ import annotations

import shutil
import subprocess

from jepsen_blk.errors import UserError
from jepsen_blk.lab.local.qemu import BINARY, iscsi_disk

TGT_PACKAGE = "tgt"
ISCSI_PACKAGE = "qemu-block-extra"
_PROBE_TIMEOUT_S = 20.0
_ASKING = (BINARY, "-M", "none", "-nodefaults", "-display", "none", "-monitor", "none")


def has_iscsi_driver() -> bool:
    """Ask QEMU for a disk that nobody offers: one without the driver names that, one with it the target."""
    try:
        done = subprocess.run(
            [*_ASKING, *iscsi_disk("127.0.0.1", 1, "nobody")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "iSCSI:" in done.stderr


def require_tgt() -> None:
    """Raise UserError, with what to install, where a test on tgt cannot run."""
    packages = [] if shutil.which("tgtd") and shutil.which("tgtadm") else [TGT_PACKAGE]
    if not has_iscsi_driver():
        packages.append(ISCSI_PACKAGE)
    if packages:
        what = " and ".join(packages)
        install = f"apt-get install {' '.join(packages)}"
        raise UserError(f"storage.kind 'tgt' needs {what}; run `{install}` as root")
