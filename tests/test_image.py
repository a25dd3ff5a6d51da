"""The guest image: built from packages into the cache, and nothing of the host's is touched."""

from pathlib import Path

import pytest

from jepsen_blk.errors import UserError
from jepsen_blk.lab.local.image import Extra, copy_libraries, ensure_image
from jepsen_blk.lab.local.packages import GUEST_PACKAGES, unpacked


def test_an_image_is_built_once_for_the_same_inputs() -> None:
    first = ensure_image()
    built = first.initramfs.stat().st_ino
    again = ensure_image()
    assert again == first
    assert again.initramfs.stat().st_ino == built


def test_extras_make_another_image_and_leave_the_first(tmp_path: Path) -> None:
    plain = ensure_image()
    special = ensure_image(extra=Extra("test", lambda tree: (tree / "extra").write_bytes(b"extra") and None))
    assert special.key == f"{plain.key}-test"
    assert plain.initramfs.exists()
    assert b"extra" in special.initramfs.read_bytes()
    special.initramfs.unlink()


def test_copying_libraries_never_writes_outside_the_tree(tmp_path: Path) -> None:
    # The loader lists itself by its absolute path; joined to the tree that once named the host's own loader.
    base = unpacked(GUEST_PACKAGES, "guest-packages")
    host_loader = Path("/lib64/ld-linux-x86-64.so.2")
    before = host_loader.stat()
    (tmp_path / "lib64").mkdir()
    copy_libraries(tmp_path, base / "usr/bin/python3.11", base)
    after = host_loader.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert (tmp_path / "lib/x86_64-linux-gnu/libc.so.6").is_file()


def test_a_kernel_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/bzImage: no such kernel"):
        ensure_image(tmp_path / "nowhere/bzImage")
