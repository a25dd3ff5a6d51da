"""Which accelerator QEMU can really use here: KVM where it runs a guest at speed, TCG elsewhere.

That /dev/kvm exists, or opens, proves nothing: the answer comes from running a micro-guest (see
microguest.py) in a child process under a bound, once per boot of the host. A wrong answer would not
break a test, it would make every boot take an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from jepsen_blk.errors import UserError
from jepsen_blk.lab.local.packages import cache_dir

Name = Literal["kvm", "tcg"]

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MICROGUEST = Path(__file__).with_name("microguest.py")
_PROBE_TIMEOUT_S = 2.0
_USABLE_MS = 20.0


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What QEMU's -accel is given, and one clause that says why."""

    name: Name
    why: str


def choose(requested: Literal["auto", "kvm", "tcg"]) -> Accelerator:
    """Return the accelerator of a test; raises UserError when KVM is asked for and cannot be used."""
    if requested == "tcg":
        return Accelerator("tcg", "the specification asks for it")
    found = probe()
    if requested == "kvm" and found.name != "kvm":
        raise UserError(f"guest.accelerator is kvm, but {found.why}; use auto or tcg")
    return found


def probe() -> Accelerator:
    """Return the best accelerator that works here, from the cache of this boot if it was asked before."""
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        lacks = "cannot be opened by this user" if _DEVICE.exists() else "does not exist"
        return Accelerator("tcg", f"{_DEVICE} {lacks}")
    cache = cache_dir() / "accelerator.json"
    boot_id = _BOOT_ID.read_text().strip()
    known = _recall(cache, boot_id)
    if known is None:
        known = judge(_run_microguest([sys.executable, "-I", "-S", str(_MICROGUEST)]))
        _remember(cache, boot_id, known)
    return known


def judge(answer: float | str) -> Accelerator:
    """Judge the micro-guest's time in ms, or the reason why it has none."""
    if isinstance(answer, str):
        return Accelerator("tcg", f"{_DEVICE} runs no guest: {answer}")
    if answer > _USABLE_MS:
        bound = f"a usable KVM needs under {_USABLE_MS:.0f} ms"
        return Accelerator("tcg", f"{_DEVICE} took {answer:.0f} ms for the micro-guest; {bound}")
    return Accelerator("kvm", f"{_DEVICE} ran the micro-guest in {answer:.2f} ms")


def _run_microguest(argv: list[str], timeout_s: float = _PROBE_TIMEOUT_S) -> float | str:
    """Run it in a child that is killed when it hangs; a child stuck in the kernel is left behind."""
    # The pipes are not read to their end after a kill: only the child's death closes them.
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=timeout_s)
        return f"the micro-guest hung for {timeout_s:g} s"
    if child.returncode != 0 or not out.strip().isdigit():
        return err.strip().splitlines()[-1] if err.strip() else f"it ended with {child.returncode}"
    return int(out) / 1e6


def _recall(cache: Path, boot_id: str) -> Accelerator | None:
    try:
        kept = json.loads(cache.read_text())
        if kept.pop("boot_id") == boot_id:
            return Accelerator(**kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # missing, torn or of another version: probe again
    return None


def _remember(cache: Path, boot_id: str, known: Accelerator) -> None:
    scratch = cache.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a full disk costs the next run a tenth of a second
        scratch.write_text(json.dumps({"boot_id": boot_id, **asdict(known)}))
        os.replace(scratch, cache)
