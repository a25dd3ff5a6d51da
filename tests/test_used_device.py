"""Which files and devices a test refuses to overwrite, and what it makes of the others."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from jepsen_blk.errors import UserError
from jepsen_blk.stamp import BLOCK_BYTES, Stamp, encode
from jepsen_blk.storage import used_device
from jepsen_blk.storage.used_device import refuse_used_device, wipe_device

SIZE = 8 << 20


def test_a_missing_file_and_a_zeroed_one_may_be_used(tmp_path: Path) -> None:
    refuse_used_device(tmp_path / "new", SIZE)
    assert not (tmp_path / "new").exists()
    zeroed = tmp_path / "zeroed"
    with zeroed.open("wb") as file:
        file.truncate(SIZE)
    refuse_used_device(zeroed, SIZE)
    (tmp_path / "empty").touch()
    refuse_used_device(tmp_path / "empty", SIZE)


@pytest.mark.parametrize("place", [0, 512, SIZE // 2, SIZE - 1])
def test_a_file_that_holds_data_is_refused(tmp_path: Path, place: int) -> None:
    used = tmp_path / "used"
    with used.open("wb") as file:
        file.truncate(SIZE)
        file.seek(place)
        file.write(b"!")
    with pytest.raises(
        UserError, match=r"used: holds data \(at byte \d+\) that the test would destroy; wipe it"
    ):
        refuse_used_device(used, SIZE)


def test_data_behind_the_part_to_be_used_do_not_matter(tmp_path: Path) -> None:
    used = tmp_path / "used"
    with used.open("wb") as file:
        file.seek(SIZE)
        file.write(b"!")
    refuse_used_device(used, SIZE)


def test_what_cannot_be_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither a file nor a block device"):
        refuse_used_device(tmp_path, SIZE)
    with pytest.raises(UserError, match=f"there is no directory {tmp_path}/no"):
        refuse_used_device(tmp_path / "no" / "disk", SIZE)


def test_a_mounted_or_short_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "short"
    short.write_bytes(bytes(4096))
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    monkeypatch.setattr(used_device, "_is_mounted", lambda path: False)
    with pytest.raises(UserError, match=f"has 4096 bytes, the test needs {SIZE}; use fewer blocks"):
        refuse_used_device(short, SIZE)
    monkeypatch.setattr(used_device, "_is_mounted", lambda path: True)
    with pytest.raises(UserError, match="is mounted; unmount it"):
        refuse_used_device(short, SIZE)


def test_what_an_earlier_test_left_may_be_used_and_is_wiped(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    behind = b"not ours"
    stamped = b"".join(encode(Stamp(1, block, 0, 3, block + 1)) for block in range(8))
    disk.write_bytes(stamped + behind)
    size_bytes = 8 * BLOCK_BYTES
    refuse_used_device(disk, size_bytes)
    wipe_device(disk, size_bytes)
    assert disk.read_bytes() == bytes(size_bytes) + behind


def test_a_missing_file_is_made_by_wiping(tmp_path: Path) -> None:
    wipe_device(tmp_path / "new", SIZE)
    assert (tmp_path / "new").stat().st_size == SIZE
