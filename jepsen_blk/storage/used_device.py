"""The user's own file or device as the disk: never one that holds data, and zero when a test begins.

A wrong device name must not cost anybody a file system, so everything but zeros is refused; except for
stamps, which only earlier tests leave, so that the same device can be used again and again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jepsen_blk.errors import UserError
from jepsen_blk.stamp import BLOCK_BYTES, decode_one

_EDGE_BLOCKS = 256
_SAMPLES = 256
_WIPE_BYTES = 1 << 20


def refuse_used_device(path: Path, size_bytes: int) -> None:
    """Raise UserError unless `path` may be overwritten by a test of `size_bytes`.

    A file that does not exist may: the target creates it sparse. One that holds data other than an
    earlier test's, is mounted or is too small may not. The search for data is a sample: every block of
    the first and the last MiB of the part to be used, and 256 blocks between them.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no directory {path.parent}; create it first") from None
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be used as backing: {error.strerror}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UserError(f"{path}: is neither a file nor a block device; give one of these as backing")
    if stat.S_ISBLK(mode) and _is_mounted(path):
        raise UserError(f"{path}: is mounted; unmount it, or give another device")
    try:
        with path.open("rb") as file:
            available = file.seek(0, os.SEEK_END)
            place = _first_data(file.fileno(), min(available, size_bytes))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    if available < size_bytes and stat.S_ISBLK(mode):
        raise UserError(f"{path}: has {available} bytes, the test needs {size_bytes}; use fewer blocks")
    if place is not None:
        raise UserError(
            f"{path}: holds data (at byte {place}) that the test would destroy; wipe it or give another"
        )


def wipe_device(path: Path, size_bytes: int) -> None:
    """Make the part to be used all zeros, as a history begins; raises UserError if it cannot be written."""
    zeros = bytes(_WIPE_BYTES)
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            for offset in range(0, size_bytes, _WIPE_BYTES):
                file.write(zeros[: size_bytes - offset])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; check its permissions") from error


def _is_mounted(path: Path) -> bool:
    device = path.stat().st_rdev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(line.split()[2] == number for line in lines)


def _first_data(fd: int, used_bytes: int) -> int | None:
    """Return the offset of the first sampled block that is neither zero nor stamped."""
    for block in _sampled(-(-used_bytes // BLOCK_BYTES)):
        offset = block * BLOCK_BYTES
        data = os.pread(fd, min(BLOCK_BYTES, used_bytes - offset), offset)
        if data.strip(b"\0") and decode_one(data) is None:
            return offset
    return None


def _sampled(blocks: int) -> Iterator[int]:
    edge = min(_EDGE_BLOCKS, blocks)
    yield from range(edge)
    yield from range(edge, blocks - edge, max(1, blocks // _SAMPLES))
    yield from range(max(edge, blocks - edge), blocks)
