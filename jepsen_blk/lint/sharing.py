"""What the name of a disk's source tells of who else can reach it.

A linter sees names, not hosts. What is certain from a name is said to be shared; an ordinary file is local;
and where the name leaves it open, a rule only notes what holds if it is shared.
"""

from __future__ import annotations

import re

from jepsen_blk.lint.facts import Sharing, Source

_SHARED = (
    (r"/dev/disk/by-path/.*-iscsi-", "an iSCSI device"),
    (r"/dev/disk/by-path/.*-fc-", "a Fibre Channel device"),
    (r"/dev/(disk/by-id/dm-uuid-mpath|mapper/mpath)", "a multipath device"),
    (r"/dev/drbd", "a DRBD device"),
    (r"/dev/rbd", "a Ceph RBD device"),
    (r"/dev/nbd\d", "an NBD device"),
    (r"/rhev/data-center/", "an oVirt storage domain"),
    (
        r"(/.*)?/[^/]*(nfs|gluster|cephfs|ocfs2|gfs2|lustre)[^/]*/",
        "on a path that names a network or cluster file system",
    ),
)
_MOUNTS = re.compile(r"/(mnt|srv|net|media|data|shared|storage)/")
_URL = re.compile(r"(rbd|nbd|iscsi|gluster|sheepdog|nfs|nvme|vxhs)(\+\w+)?:", re.IGNORECASE)


def source_at(path: str, *, block: bool) -> Source:
    """Return the source at a path of the host, or at a QEMU URL; `block` says that it is a device, not a
    file.
    """
    if _URL.match(path):
        protocol, *rest = path.split(":")
        shown = f"{protocol}:{rest[0]}" if protocol == "rbd" else path  # its options may have a key
        return network_source(shown, protocol)
    for pattern, why in _SHARED:
        if re.match(pattern, path):
            return Source(path, Sharing.SHARED, why)
    if block:
        return Source(path, Sharing.UNKNOWN, "a device that several hosts may reach")
    if _MOUNTS.match(path):
        return Source(path, Sharing.UNKNOWN, "a file where network file systems are often mounted")
    return Source(path, Sharing.LOCAL, "an ordinary file")


def network_source(name: str, protocol: str) -> Source:
    """Return a source that QEMU reaches by itself, past the host's page cache."""
    return Source(name, Sharing.SHARED, f"reached over the network by {protocol.lower()}", host_cached=False)
