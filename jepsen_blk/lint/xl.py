"""An xl configuration of a Xen guest, read into facts.

xl writes to no place but its own host's xenstore, so nothing in it can keep a second host out: the guard is
empty by nature.
"""

from __future__ import annotations

from jepsen_blk.errors import UserError
from jepsen_blk.lint.facts import Disk, Facts, Format, Guard, Hypervisor, Said, Sharing, Source
from jepsen_blk.lint.sharing import source_at
from jepsen_blk.lint.xl_disk import XlDisk, parse_xl_disk
from jepsen_blk.lint.xl_syntax import parse_xl

_IMAGES = ("qcow", "qcow2", "qed", "vhd")
_NETWORK_SCRIPTS = ("iscsi", "nbd", "enbd", "drbd", "rbd")
_SECOND_WRITER = ("w!", "!")


def read_xl(data: bytes, origin: str) -> Facts:
    """Return what a configuration says; raises UserError with the place for what is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: not text in UTF-8: {error.reason} at byte {error.start}") from error
    settings = parse_xl(text, origin)
    disks = []
    for said in settings.get("disk", ()):
        try:
            disk = parse_xl_disk(said.value)
        except ValueError as error:
            raise UserError(f"{origin}:{said.line}: disk {said.value!r}: {error}") from error
        if disk.writable and disk.told.get("target"):
            disks.append(_disk(disk, said.line))
    return Facts(Format.XL, Hypervisor.XEN, tuple(disks), Guard())


def _disk(disk: XlDisk, line: int) -> Disk:
    return Disk(
        name=disk.told.get("vdev") or "(no vdev)",
        line=line,
        source=_source(disk),
        cache=Said("writeback", line) if _by_page_cache(disk) else None,
        two_writers=Said(disk.access, line) if disk.access in _SECOND_WRITER else None,
    )


def _source(disk: XlDisk) -> Source:
    target = disk.told["target"]
    script = disk.told.get("script", "").rpartition("/")[2].removeprefix("block-")
    if script in _NETWORK_SCRIPTS:
        return Source(target, Sharing.SHARED, f"attached by block-{script}", host_cached=_by_qemu(disk))
    if script:
        return Source(target, Sharing.UNKNOWN, f"attached by the script {disk.told['script']}")
    if not target.startswith("/") and ":" not in target:
        target = f"/dev/{target}"
    return source_at(target, block=target.startswith("/dev/"))


def _by_qemu(disk: XlDisk) -> bool:
    return disk.told.get("backendtype") == "qdisk" or disk.told.get("format") in _IMAGES


def _by_page_cache(disk: XlDisk) -> bool:
    """Tell whether libxl has QEMU open it without O_DIRECT, its workaround for a bug of some dom0 kernels."""
    return _by_qemu(disk) and "direct-io-safe" not in disk.flags
