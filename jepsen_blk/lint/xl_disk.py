"""One disk specification of xl: xl-disk-configuration(5), its deprecated forms, and what xend took beyond it.

A series of parameters with commas between: `key=value`, flags, and positional ones (target, format, vdev,
access). The old form has prefixes before the target (`phy:`, `tap:aio:`, `drbd:`) and no format after it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FORMATS = ("", "raw", "qcow", "qcow2", "vhd", "qed", "empty")
_FLAGS = ("direct-io-safe", "discard", "no-discard", "colo", "no-colo", "trusted", "untrusted")
_PREFIX = re.compile(r"(raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy):")
_FORMAT_PREFIXES = ("raw", "qcow", "qcow2", "vhd")
_SCRIPT_PREFIXES = ("iscsi", "nbd", "enbd", "drbd")
_KEY = re.compile(r"([a-z][-_a-z0-9]*)=([^,]*),?")
_PLACES = ("target", "format", "vdev", "access")
_ACCESS = {"": True, "r": False, "ro": False, "w": True, "rw": True, "w!": True, "!": True}


@dataclass(slots=True)
class XlDisk:
    """A disk specification, as far as it is of interest; values are empty where they are not given."""

    told: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    old: bool = False

    @property
    def cdrom(self) -> bool:
        """Tell whether it is a CD-ROM."""
        return self.told.get("devtype") == "cdrom"

    @property
    def access(self) -> str:
        """Return the access as written, empty where nothing is said."""
        return self.told.get("access", "")

    @property
    def writable(self) -> bool:
        """Tell whether the guest may write: it may where nothing is said, but not to a CD-ROM."""
        return _ACCESS[self.access] and not self.cdrom


def parse_xl_disk(text: str) -> XlDisk:
    """Read a specification; raises ValueError saying what in it is wrong."""
    disk, rest = XlDisk(), text
    while rest := rest.lstrip(" \t\n"):
        if rest.startswith("target="):
            disk.told["target"] = rest.removeprefix("target=").removesuffix(",")
            break
        key, prefix = _KEY.match(rest), _PREFIX.match(rest)
        if key:
            disk.told[key[1]] = key[2]
            rest = rest[key.end() :]
        elif prefix:
            _take_prefix(disk, prefix[1])
            rest = rest[prefix.end() :]
        else:
            word, _, rest = rest.partition(",")
            _take_word(disk, word)
    _refuse_unknown(disk)
    return disk


def _take_prefix(disk: XlDisk, name: str) -> None:
    disk.old = True
    if name in _FORMAT_PREFIXES:
        disk.told["format"] = name
    elif name in _SCRIPT_PREFIXES:
        disk.told["script"] = f"block-{name}"
    else:
        disk.told["prefix"] = name


def _take_word(disk: XlDisk, word: str) -> None:
    if word == "cdrom":
        disk.told["devtype"] = "cdrom"
    elif word in _FLAGS:
        disk.flags.add(word)
    else:
        _take_positional(disk, word)


def _take_positional(disk: XlDisk, word: str) -> None:
    place = next(
        (name for name in _PLACES if name not in disk.told and not (disk.old and name == "format")), ""
    )
    if not place:
        raise ValueError(
            f"{word!r} is one positional parameter too many: there are target, format, vdev and access"
        )
    if place == "format" and not disk.told["target"] and ":" in word:
        place = "vdev"  # ",hdc:cdrom,r", an empty drive of xend
    if place == "vdev" and ":" in word:
        word, _, disk.told["devtype"] = word.rpartition(":")
        disk.told.setdefault("format", "empty" if not disk.told["target"] else "")
    disk.told[place] = word


def _refuse_unknown(disk: XlDisk) -> None:
    if disk.told.get("format", "") not in _FORMATS:
        raise ValueError(f"there is no format {disk.told['format']!r}; there are {', '.join(_FORMATS[1:])}")
    if disk.access not in _ACCESS:
        raise ValueError(f"there is no access {disk.access!r}; there are r, ro, w and rw")
