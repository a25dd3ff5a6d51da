"""The linter's readers: every form of a file gives the same facts, and no bytes give a traceback."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepsen_blk.errors import UserError
from jepsen_blk.lint.drbd import read_drbd
from jepsen_blk.lint.facts import NOWHERE, Facts, Format, Hypervisor, Said, Sharing
from jepsen_blk.lint.libvirt import read_libvirt
from jepsen_blk.lint.reading import format_of
from jepsen_blk.lint.sharing import source_at
from jepsen_blk.lint.specification import read_specification
from jepsen_blk.lint.xl import read_xl
from jepsen_blk.lint.xl_disk import parse_xl_disk
from jepsen_blk.lint.xl_syntax import parse_xl

FILES = Path(__file__).parent / "lint"
READERS: dict[str, Callable[[bytes, str], Facts]] = {
    "cluster-guest.xml": read_libvirt,
    "guest.cfg": read_xl,
    "r0.res": read_drbd,
    "unsafe.toml": read_specification,
}
SOURCES = {name: (FILES / name).read_bytes() for name in READERS}


def libvirt(disk: str) -> Facts:
    return read_libvirt(f"<domain type='kvm'><devices>{disk}</devices></domain>".encode(), "f")


def test_a_domain_gives_each_writable_disk_with_the_lines_of_what_it_says() -> None:
    facts = read_libvirt(SOURCES["cluster-guest.xml"], "f")
    vda, vdb, sda, vdc, vdd = facts.disks
    assert [disk.name for disk in facts.disks] == ["vda", "vdb", "sda", "vdc", "vdd"]
    assert (vda.line, vda.cache, vda.errors) == (17, Said("writeback", 18), Said("stop", 18))
    assert (vda.source.sharing, vda.source.why) == (Sharing.SHARED, "an iSCSI device")
    assert (vdb.source.name, vdb.resends) == ("nbd://storage.example.org:10809/db1", Said(30, 28))
    assert vdb.source.host_cached is False
    assert (sda.two_writers, sda.reserved) == (Said("<shareable/>", 40), Said("<reservations>", 35))
    assert vdc.source.sharing is Sharing.LOCAL  # whatever its backing file is on
    assert vdd.source.sharing is Sharing.UNKNOWN
    assert facts.guard is not None
    assert (facts.guard.leases, facts.guard.on_lock_failure) == (0, Said("ignore", 14))
    assert [said.line for said in facts.unread] == [67]


@pytest.mark.parametrize(
    "inner",
    [
        "<source file='/mnt/nfs/a'/><readonly/>",
        "<source file='/mnt/nfs/a'/><transient/>",
        "<target dev='vda'/>",
    ],
)
def test_a_disk_that_takes_no_writes_is_left_out(inner: str) -> None:
    assert libvirt(f"<disk type='file'>{inner}</disk>").disks == ()


@pytest.mark.parametrize(
    ("disk", "sharing", "cached"),
    [
        ("<disk type='network'><source protocol='rbd' name='p/i'/></disk>", Sharing.SHARED, False),
        ("<disk type='volume'><source pool='p' volume='v'/></disk>", Sharing.UNKNOWN, True),
        ("<disk type='vhostuser'><source type='unix' path='/s'/></disk>", Sharing.UNKNOWN, False),
        ("<disk type='nvme'><source type='pci' namespace='1'/></disk>", Sharing.LOCAL, False),
        ("<disk type='block'><source dev='/dev/vg/lv'/></disk>", Sharing.UNKNOWN, True),
        ("<disk><source file='/var/lib/libvirt/images/a'/></disk>", Sharing.LOCAL, True),
    ],
)
def test_every_type_of_source_is_known(disk: str, sharing: Sharing, cached: bool) -> None:
    (found,) = libvirt(disk).disks
    assert (found.source.sharing, found.source.host_cached) == (sharing, cached)


def test_a_disk_alone_and_a_running_domains_status_are_read_too() -> None:
    disk = b"<disk type='block'><source dev='/dev/drbd0'/><target dev='vda'/></disk>"
    assert read_libvirt(disk, "f").disks[0].name == "vda"
    status = b"<domstatus><domain type='xen'><devices>" + disk + b"</devices></domain></domstatus>"
    facts = read_libvirt(status, "f")
    assert (facts.hypervisor, len(facts.disks)) == (Hypervisor.XEN, 1)


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", "f:1: a document type"),
        ("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>", "f:1: a document type"),
        ("<domain>\n<devices></domain>", "f:2: not valid XML: mismatched tag"),
        ("<pool/>", "the root is <pool>"),
        ("<?xml version='1.0' encoding='utf-7'?><domain/>", "its encoding cannot be read"),
        ("<a>" * 300 + "</a>" * 300, "nested more than 200"),
        ("<disk><source><reconnect delay='soon'/></source></disk>", "a number of seconds, not 'soon'"),
        ("", "not valid XML: no element found"),
    ],
)
def test_xml_that_is_no_domain_or_dangerous_is_refused_with_its_line(xml: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        read_libvirt(xml.encode(), "f")


@pytest.mark.parametrize(
    "text",
    [
        "/dev/vg/guest-volume,,hda",
        "/dev/vg/guest-volume,raw,hda,rw",
        "format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume",
        "raw:/dev/vg/guest-volume,hda,w",
        "phy:/dev/vg/guest-volume,hda,w",
        "tap:aio:/dev/vg/guest-volume,hda,w",
        "vdev=hda,/dev/vg/guest-volume,raw,rw",
    ],
)
def test_equal_disk_specifications_of_the_manual_are_equal(text: str) -> None:
    disk = parse_xl_disk(text)
    assert (disk.told["target"], disk.told["vdev"], disk.writable) == ("/dev/vg/guest-volume", "hda", True)


@pytest.mark.parametrize(
    "text",
    [
        "/root/image.iso,,hdc,cdrom",
        "/root/image.iso,,hdc,,cdrom",
        "/root/image.iso,raw,hdc,devtype=cdrom",
        "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso",
        "raw:/root/image.iso,hdc:cdrom,ro",
    ],
)
def test_equal_cdroms_of_the_manual_are_equal_and_not_writable(text: str) -> None:
    disk = parse_xl_disk(text)
    assert (disk.told["target"], disk.told["vdev"]) == ("/root/image.iso", "hdc")
    assert (disk.cdrom, disk.writable) == (True, False)


def test_an_empty_drive_of_xend_and_a_target_with_commas_are_read() -> None:
    empty = parse_xl_disk(",hdc:cdrom,r")
    assert (empty.told["target"], empty.told["vdev"], empty.cdrom) == ("", "hdc", True)
    long = parse_xl_disk("vdev=xvda,script=block-iscsi,target=iqn=a,portal=b:1")
    assert (long.told["target"], long.told["script"]) == ("iqn=a,portal=b:1", "block-iscsi")


def test_an_xl_configuration_gives_its_writable_disks() -> None:
    facts = read_xl(SOURCES["guest.cfg"], "f")
    assert [(disk.name, disk.line, disk.source.sharing.value) for disk in facts.disks] == [
        ("xvda", 11, "shared"),
        ("xvdb", 12, "shared"),
        ("xvdc", 13, "unknown"),
        ("xvdd", 14, "shared"),
        ("xvde", 16, "shared"),
    ]
    assert [disk.cache for disk in facts.disks] == [None, Said("writeback", 12), None, None, None]
    assert facts.disks[3].two_writers == Said("w!", 14)


def test_qemu_opens_an_image_without_the_page_cache_where_it_is_said_to_be_safe() -> None:
    line = (
        b"disk = ['/srv/a.qcow2,qcow2,xvda,rw,direct-io-safe', 'backendtype=qdisk,vdev=xvdb,target=rbd:p/i']"
    )
    safe, rbd = read_xl(line, "f").disks
    assert (safe.cache, safe.source.sharing) == (None, Sharing.UNKNOWN)
    assert (rbd.source.sharing, rbd.source.host_cached) == (Sharing.SHARED, False)


def test_xl_syntax_has_lists_over_lines_appending_comments_and_escapes() -> None:
    text = "a = 'x\\'y' # c\nb = [ \"1\",\n 0x2, [ 3, ],\n]; c = 4\nb += [ '\\x41' ]\n"
    assert parse_xl(text, "f") == {
        "a": [Said("x'y", 1)],
        "b": [Said("1", 2), Said("0x2", 3), Said("3", 3), Said("A", 5)],
        "c": [Said("4", 4)],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import os\n", "f:1: not the syntax of xl.cfg: it has 'os' where there should be '='"),
        ("name = os.environ['A']", "f:1: not the syntax of xl.cfg"),
        ("a = 1\ndisk = [ 'x'\n 'y' ]", "f:3: .* where there should be ',' or ']' in a list"),
        ("disk = [ 'x',", "the file ends where there should be a string"),
        ("disk = [ 'a,raw,xvda,q' ]", "f:1: disk 'a,raw,xvda,q': there is no access 'q'"),
        ("disk = [ 'a,zip,xvda' ]", "there is no format 'zip'"),
        ("disk = [ 'a,,b,w,x' ]", "'x' is one positional parameter too many"),
        ("a = " + "[" * 30, "lists at most 20 deep"),
    ],
)
def test_what_xl_would_not_take_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_xl(text.encode(), "f")


def test_drbd_gives_each_resource_with_what_common_says() -> None:
    r0, r1 = read_drbd(SOURCES["r0.res"], "f").replicas
    assert (r0.name, r0.line, r0.whole) == ("resource r0", 10, True)
    assert r0.two_primaries == Said("yes", 12)
    assert (r0.protocol, r0.fencing) == (Said("C", 4), None)
    assert [said.line for said in r0.discards] == [5, 6]
    assert (r1.two_primaries, r1.protocol) == (None, Said("A", 28))
    assert r1.fencing == Said("resource-and-stonith", 29)


def test_a_resource_alone_leaves_open_what_common_says_elsewhere() -> None:
    (alone,) = read_drbd(b"resource r { net { allow-two-primaries; } }", "f").replicas
    assert (alone.whole, alone.two_primaries) == (False, Said("", 1))
    (common,) = read_drbd(b'include "r.res";\ncommon { disk { fencing dont-care; } }', "f").replicas
    assert (common.whole, common.fencing) == (True, Said("dont-care", 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resource r {\n net { protocol C }\n}", "f:2: '}': 'protocol' is not ended by ';'"),
        ("resource r {", "the file ends within 'resource'"),
        ("}", "it closes no section"),
        ("{", "no name is before it"),
        ('a "b\n";', "a string that does not end in its line"),
    ],
)
def test_what_drbd_would_not_take_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_drbd(text.encode(), "f")


def test_a_specification_gives_the_lines_of_what_it_sets() -> None:
    facts = read_specification(SOURCES["unsafe.toml"], "f")
    recovery = facts.recovery
    assert recovery is not None
    assert (recovery.policy, recovery.conflict.line) == (Said("preempt", 17), 5)
    assert (recovery.ignores_flush, recovery.overlapping_writes) == (Said(True, 8), Said(True, 14))
    assert facts.disks[0].resends == Said(30, 11)
    dotted = read_specification(
        b'name = "x"\nhandoff.policy = "drain"\nstorage = { conflict = "serialize" }', "f"
    )
    assert dotted.recovery is not None
    assert (dotted.recovery.policy.line, dotted.recovery.conflict.line) == (2, 3)
    assert dotted.recovery.ignores_flush == Said(False, NOWHERE)


@pytest.mark.parametrize(
    ("path", "sharing"),
    [
        ("/dev/disk/by-path/pci-0000:05:00.0-fc-0x5006-lun-1", Sharing.SHARED),
        ("/dev/disk/by-id/dm-uuid-mpath-3600", Sharing.SHARED),
        ("/dev/rbd/pool/image", Sharing.SHARED),
        ("/dev/nbd0", Sharing.SHARED),
        ("/vm/gluster1/a.img", Sharing.SHARED),
        ("nbd+unix:///x", Sharing.SHARED),
        ("/dev/sdb", Sharing.UNKNOWN),
        ("/mnt/images/a.img", Sharing.UNKNOWN),
        ("/home/me/vm.qcow2", Sharing.LOCAL),
        ("/home/me/nfs", Sharing.LOCAL),
        ("", Sharing.LOCAL),
    ],
)
def test_a_path_is_shared_where_its_name_says_so(path: str, sharing: Sharing) -> None:
    assert source_at(path, block=path.startswith("/dev/")).sharing is sharing


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("\ufeff<domain/>", Format.LIBVIRT),
        ("# resource x {\nname = 'a'\nmemory = 5\n", Format.XL),
        ("disk = [ 'a,,b' ]", Format.XL),
        ("resource r0 {\n", Format.DRBD),
        ('include "drbd.d/*.res";', Format.DRBD),
        ("[[nemesis]]\nfault = 'migrate'\n", Format.SPEC),
        ("name = 'a'\nseed = 3", Format.SPEC),
        ("storage.conflict = 'serialize'", Format.SPEC),
    ],
)
def test_the_content_tells_the_format(text: str, format_: Format) -> None:
    assert format_of(text.encode(), "f") is format_


def test_what_nothing_tells_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"f: cannot tell .* --format \(spec, libvirt, xl, drbd\)"):
        format_of(b"hello", "f")


def test_the_key_in_an_rbd_target_is_not_shown() -> None:
    assert source_at("rbd:pool/image:id=a:key=SECRET", block=False).name == "rbd:pool/image"


def test_an_ipv6_address_stands_in_brackets() -> None:
    disk = (
        "<disk type='network'><source protocol='nbd' name='a'><host name='::1' port='6000'/></source></disk>"
    )
    assert libvirt(disk).disks[0].source.name == "nbd://[::1]:6000/a"


def read_or_refuse(read: Callable[[bytes, str], object], data: bytes) -> None:
    """Any other error than the user's is one of ours, and is raised."""
    with contextlib.suppress(UserError):
        read(data, "f")


@given(data=st.binary(max_size=200), name=st.sampled_from(sorted(READERS)))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    read_or_refuse(READERS[name], data)
    read_or_refuse(format_of, data)


@given(data=st.data(), name=st.sampled_from(sorted(READERS)))
def test_a_damaged_file_is_read_or_refused(data: st.DataObject, name: str) -> None:
    whole = SOURCES[name]
    at = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 40))
    put = data.draw(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"'", b'"', b"{", b"}", b"[", b"=", b"<"]))
    )
    read_or_refuse(READERS[name], whole[:at] + put + whole[at + gone :])


@given(text=st.text(alphabet="abw!:,= /\t'\"[]#\\\n;0x", max_size=60))
def test_any_text_of_xl_is_read_or_refused(text: str) -> None:
    read_or_refuse(read_xl, text.encode())
    read_or_refuse(read_xl, f"disk = [ '{text}' ]".encode())
