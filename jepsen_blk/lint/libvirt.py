"""A libvirt domain XML (`virsh dumpxml`), or one <disk> of it, read into facts.

Names and defaults are those of libvirt's formatdomain. What stands in nested elements (backing files, a
mirror) is not the disk's own, so only direct children are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from jepsen_blk.errors import UserError
from jepsen_blk.lint.facts import Disk, Facts, Format, Guard, Hypervisor, Said, Sharing, Source
from jepsen_blk.lint.sharing import network_source, source_at
from jepsen_blk.lint.xml_tree import Element, parse_xml

_REMOVABLE = ("cdrom", "floppy")
_QEMU_SECTIONS = ("qemu:commandline", "qemu:override")


def read_libvirt(data: bytes, origin: str) -> Facts:
    """Return what a domain says; raises UserError with the place for what is none."""
    root = parse_xml(data, origin)
    if root.tag == "disk":
        return Facts(Format.LIBVIRT, Hypervisor.QEMU, tuple(_disks([root], origin)))
    domain = root.find("domain") if root.tag == "domstatus" else root
    if domain is None or domain.tag != "domain":
        raise UserError(f"{origin}:{root.line}: the root is <{root.tag}>, not <domain> or <disk>")
    devices = [device for part in domain.all("devices") for device in part.children]
    failure = domain.find("on_lockfailure")
    return Facts(
        Format.LIBVIRT,
        Hypervisor.XEN if domain.get("type") == "xen" else Hypervisor.QEMU,
        tuple(_disks(devices, origin)),
        Guard(
            leases=sum(device.tag == "lease" for device in devices),
            on_lock_failure=Said(failure.text.strip(), failure.line) if failure else None,
        ),
        unread=tuple(_unread(domain)),
    )


def _unread(domain: Element) -> Iterator[Said[str]]:
    for name in _QEMU_SECTIONS:
        for section in domain.all(name):
            yield Said(
                f"<{name}>, which sets QEMU's own options: cache, werror and reconnect-delay may be there",
                section.line,
            )


def _disks(devices: list[Element], origin: str) -> Iterator[Disk]:
    for device in devices:
        if device.tag != "disk" or device.get("device") in _REMOVABLE:
            continue
        if device.find("readonly") or device.find("transient") or device.find("source") is None:
            continue  # what is written is nothing, or is thrown away, or goes nowhere yet
        yield _disk(device, origin)


def _disk(disk: Element, origin: str) -> Disk:
    target, driver, source = disk.find("target"), disk.find("driver"), disk.find("source")
    reconnect = source.find("reconnect") if source else None
    reserved = source.find("reservations") if source else None
    shareable = disk.find("shareable")
    return Disk(
        name=(target.get("dev") if target else "") or "(no target)",
        line=disk.line,
        source=_source(disk, source),
        cache=_attribute(driver, "cache"),
        errors=_attribute(driver, "error_policy"),
        resends=_delay(reconnect, origin),
        two_writers=Said("<shareable/>", shareable.line) if shareable else None,
        reserved=Said("<reservations>", reserved.line) if reserved else None,
    )


def _attribute(element: Element | None, name: str) -> Said[str] | None:
    value = element.get(name) if element else ""
    return Said(value, element.line) if element and value not in ("", "default") else None


def _delay(reconnect: Element | None, origin: str) -> Said[int] | None:
    """Return the seconds of <reconnect delay>, which only NBD has; vhost-user's has other attributes."""
    given = reconnect.get("delay") if reconnect else ""
    if reconnect is None or not given:
        return None
    try:
        return Said(int(given), reconnect.line)
    except ValueError:
        raise UserError(
            f"{origin}:{reconnect.line}: <reconnect>: delay is a number of seconds, not {given!r}"
        ) from None


def _source(disk: Element, source: Element | None) -> Source:
    kind = disk.get("type") or "file"
    if source is None:
        return Source("(no source)", Sharing.UNKNOWN, "nowhere yet")
    if kind == "network":
        return _network(source)
    if kind == "volume":
        name = f"volume {source.get('volume')} of pool {source.get('pool')}"
        return Source(name, Sharing.UNKNOWN, "in a pool, which is described elsewhere")
    if kind in ("vhostuser", "vhostvdpa"):
        name = source.get("path") or source.get("dev")
        return Source(name, Sharing.UNKNOWN, "served by another process", host_cached=False)
    if kind == "nvme":
        return Source("an NVMe controller", Sharing.LOCAL, "a device of this host", host_cached=False)
    path = source.get("dev") if kind == "block" else source.get("file") or source.get("dir")
    return source_at(path, block=kind == "block")


def _network(source: Element) -> Source:
    protocol, host = source.get("protocol") or "network", source.find("host")
    at = host.get("name") or host.get("socket") if host else ""
    at = f"[{at}]" if ":" in at else at  # an IPv6 address
    if host and host.get("port"):
        at += f":{host.get('port')}"
    return network_source(f"{protocol}://{at}/{source.get('name').lstrip('/')}", protocol)
