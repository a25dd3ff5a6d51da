"""A specification of ours, read into facts: its storage, its guest's disk and its handoff policy."""

from __future__ import annotations

import re
import tomllib

from jepsen_blk.errors import SpecError
from jepsen_blk.lint.facts import NOWHERE, Disk, Facts, Format, Hypervisor, Recovery, Said, Sharing, Source
from jepsen_blk.spec import Spec, make_spec

_TABLE = re.compile(r"\s*\[\s*([\w.-]+)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


def read_specification(data: bytes, origin: str) -> Facts:
    """Return what a specification says; raises SpecError with every mistake."""
    try:
        text = data.decode("utf-8")
        told = tomllib.loads(text)
        spec = make_spec(told, origin)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{origin}: not valid TOML: {error}") from error
    lines = _lines(text)

    def at(key: str) -> int:
        """Return the line of a setting, or of its table where that has it in braces; a default has none."""
        table, _, name = key.partition(".")
        return lines.get(key) or lines.get(table) or 1 if name in told.get(table, ()) else NOWHERE

    storage, guest = spec.storage, spec.guest
    xen = guest.frontend == "blkfront"
    disk = Disk(
        name="the disk under test",
        line=at("guest.frontend"),
        source=Source(storage.kind, Sharing.SHARED, "the storage under test", host_cached=False),
        errors=Said(
            {"enospc": "enospace"}.get(guest.disk_errors, guest.disk_errors), at("guest.disk_errors")
        ),
        resends=Said(delay_s, at("guest.reconnect_delay_s"))
        if (delay_s := guest.reconnect_delay_s)
        else None,
    )
    recovery = Recovery(
        policy=Said(spec.handoff.policy, at("handoff.policy")),
        conflict=Said(storage.conflict, at("storage.conflict")),
        overlapping_writes=Said(spec.workload.overlapping_writes, at("workload.overlapping_writes")),
        ignores_flush=Said(storage.ignore_flush, at("storage.ignore_flush")),
        simulated=_is_simulated(spec),
    )
    return Facts(Format.SPEC, Hypervisor.XEN if xen else Hypervisor.QEMU, (disk,), recovery=recovery)


def _is_simulated(spec: Spec) -> bool:
    return spec.storage.kind == "policy" and spec.storage.backing is None


def _lines(text: str) -> dict[str, int]:
    """Return the line in which each `table.key` is first set, and each table begins."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE.match(line):
            table = match[1]
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            found.setdefault(f"{table}.{match[1]}" if table else match[1], number)
    return found
