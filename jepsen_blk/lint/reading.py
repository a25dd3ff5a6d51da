"""Which format a file has, and its facts.

The format is told by the content, since xl configurations and DRBD resources have no common suffix. Bytes
that are none of them are a mistake that names the place, never a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from jepsen_blk.errors import UserError
from jepsen_blk.lint.drbd import read_drbd
from jepsen_blk.lint.facts import Facts, Format
from jepsen_blk.lint.libvirt import read_libvirt
from jepsen_blk.lint.specification import read_specification
from jepsen_blk.lint.xl import read_xl
from jepsen_blk.mistakes import unknown_name
from jepsen_blk.spec import Spec

STDIN = "-"
_MOST_BYTES = 8 << 20
_READERS: dict[Format, Callable[[bytes, str], Facts]] = {
    Format.SPEC: read_specification,
    Format.LIBVIRT: read_libvirt,
    Format.XL: read_xl,
    Format.DRBD: read_drbd,
}
_DRBD = re.compile(
    r"^\s*(?:(?:resource|common|global|template-file)\b[^={\n]*\{|include\s+[^=\n]*;)", re.MULTILINE
)
_TABLE = re.compile(r"^\s*\[\[?\s*(\w+)", re.MULTILINE)
_SETTING = re.compile(r"^\s*(\w+)\s*(?:\.|\+?=)", re.MULTILINE)
_COMMENT = re.compile(r"#[^\n]*")
_OF_XL = {
    *(
        "disk",
        "vif",
        "memory",
        "maxmem",
        "vcpus",
        "kernel",
        "ramdisk",
        "builder",
        "type",
        "bootloader",
        "on_crash",
    ),
    *(
        "on_reboot",
        "on_poweroff",
        "extra",
        "root",
        "uuid",
        "vfb",
        "pci",
        "cpus",
        "boot",
        "firmware",
        "serial",
    ),
}


def format_named(name: str | None) -> Format | None:
    """Return the format of that name, None where none is given; raises UserError naming the choices."""
    if name is None:
        return None
    if name not in list(Format):
        raise UserError(f"--format: {unknown_name('format', name, Format)}")
    return Format(name)


def read_facts(file: str, given: Format | None, stdin: BinaryIO) -> Facts:
    """Return the facts of a file, or of `stdin` if it is "-"; raises UserError for what cannot be read."""
    data, origin = _bytes(file, stdin), name_of(file)
    return _READERS[given or format_of(data, origin)](data, origin)


def name_of(file: str) -> str:
    """Return how a file is called in messages."""
    return "(stdin)" if file == STDIN else file


def format_of(data: bytes, origin: str) -> Format:
    """Tell the format by the content; raises UserError where nothing tells."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    if text.lstrip().startswith("<") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Format.LIBVIRT
    text = _COMMENT.sub("", text)
    if _DRBD.search(text):
        return Format.DRBD
    ours = set(Spec.model_fields)
    settings = set(_SETTING.findall(text))
    if ours & set(_TABLE.findall(text)):
        return Format.SPEC
    if settings & _OF_XL:
        return Format.XL
    if settings & ours:
        return Format.SPEC
    choices = ", ".join(Format)
    raise UserError(f"{origin}: cannot tell what it is written in; say it with --format ({choices})")


def _bytes(file: str, stdin: BinaryIO) -> bytes:
    try:
        if file == STDIN:
            data = stdin.read(_MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{name_of(file)}: cannot be read: {why}") from error
    if len(data) > _MOST_BYTES:
        raise UserError(f"{name_of(file)}: larger than {_MOST_BYTES >> 20} MiB: no configuration is")
    return data
