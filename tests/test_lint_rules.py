"""The linter's rules: each fires on what is unsafe, on nothing else, and says what is there to be found."""

import json
import re
from pathlib import Path

import pytest
from command_line import only_line, run

from jepsen_blk.checker.kinds import KINDS
from jepsen_blk.errors import EXIT_FAIL, EXIT_PASS, EXIT_USER, UserError
from jepsen_blk.lint.drbd import read_drbd
from jepsen_blk.lint.facts import Facts
from jepsen_blk.lint.findings import Level, Scenario, Specification
from jepsen_blk.lint.libvirt import read_libvirt
from jepsen_blk.lint.linter import command, lint, specification_of
from jepsen_blk.lint.rules import RULES, rule_named
from jepsen_blk.lint.specification import read_specification
from jepsen_blk.lint.xl import read_xl
from jepsen_blk.report.lint import rules_page
from jepsen_blk.scenarios import NAMES

ROOT = Path(__file__).parent.parent
FILES = Path(__file__).parent / "lint"
ISCSI = "/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2024-01.org.example:a-lun-0"


def found(facts: Facts) -> list[tuple[str, str]]:
    return [(finding.rule.id, finding.level.value) for finding in lint(facts, "f").findings]


def domain(disk: str, rest: str = "") -> list[tuple[str, str]]:
    text = f"<domain type='kvm'>{rest}<devices>{disk}</devices></domain>"
    return [item for item in found(read_libvirt(text.encode(), "f")) if item[0] != "no-lock"]


def block(driver: str = "cache='none'", path: str = ISCSI, inner: str = "") -> str:
    return f"<disk type='block'><driver {driver}/><source dev='{path}'/>{inner}</disk>"


def spec(text: str) -> list[str]:
    return [rule for rule, _ in found(read_specification(text.encode(), "f"))]


def test_every_rule_says_all_that_it_promises() -> None:
    for rule in RULES.values():
        assert all((rule.title, rule.looks_at, rule.how, rule.remedy, rule.source)), rule.id
        assert rule.kinds, rule.id
        assert set(rule.kinds) <= set(KINDS), rule.id
        if isinstance(rule.shown, Scenario):
            assert rule.shown.name in NAMES
        if isinstance(rule.shown, Specification):
            assert specification_of(rule)
    shown = {rule.shown.name for rule in RULES.values() if isinstance(rule.shown, Specification)}
    assert {path.stem for path in (ROOT / "jepsen_blk/lint/shown").iterdir()} == shown


def test_every_rule_fires_on_some_file_of_the_tests() -> None:
    fired = {rule for rule, _ in found(read_libvirt((FILES / "cluster-guest.xml").read_bytes(), "f"))}
    fired |= {rule for rule, _ in found(read_xl((FILES / "guest.cfg").read_bytes(), "f"))}
    fired |= {rule for rule, _ in found(read_drbd((FILES / "r0.res").read_bytes(), "f"))}
    fired |= set(spec((FILES / "unsafe.toml").read_text()))
    fired |= set(spec("[handoff]\npolicy='requeue'"))
    fired |= set(spec("[handoff]\npolicy='epoch'\n[storage]\nconflict='ignore-second'"))
    assert fired == set(RULES)


@pytest.mark.parametrize("name", ["desktop-guest.xml", "leased-guest.xml"])
def test_a_local_file_and_a_leased_network_disk_are_safe_whatever_their_cache(name: str) -> None:
    assert found(read_libvirt((FILES / name).read_bytes(), "f")) == []


def test_a_specification_of_a_sound_policy_is_safe() -> None:
    assert spec((FILES / "safe.toml").read_text()) == []


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (block(), []),
        (block("cache='directsync'"), []),
        (block("cache='writeback'"), [("host-cache", "warning")]),
        (block("cache='writethrough'"), [("host-cache", "note")]),
        (block("cache='default'"), [("host-cache", "warning")]),
        (block("name='qemu'"), [("host-cache", "warning")]),
        (block("name='qemu'", "/dev/vg/lv"), []),
        (block("cache='writeback'", "/dev/vg/lv"), [("host-cache", "note")]),
        (block("cache='unsafe'"), [("flush-ignored", "error")]),
        (block("cache='none' error_policy='stop'"), [("stop-resend", "warning")]),
        (block("cache='none' error_policy='stop'", "/dev/vg/lv"), [("stop-resend", "note")]),
        (block("cache='none' error_policy='enospace'"), []),
        (block("cache='none' error_policy='report'"), [("errors-reported", "note")]),
        (block("cache='none' error_policy='ignore'", "/dev/vg/lv"), [("errors-ignored", "error")]),
        (block(inner="<shareable/>"), [("two-writers", "warning")]),
        (block(inner="<readonly/><shareable/>"), []),
    ],
)
def test_a_disks_settings_are_judged_by_what_it_is_stored_on(
    disk: str, expected: list[tuple[str, str]]
) -> None:
    assert domain(disk) == expected


def test_a_delay_of_no_seconds_sends_nothing_again() -> None:
    source = "<source protocol='nbd'><reconnect delay='{}'/></source>"
    nbd = f"<disk type='network'><driver cache='none'/>{source}</disk>"
    assert domain(nbd.format(0)) == []
    assert domain(nbd.format(5)) == [("reconnect-resend", "error")]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (block(), ["no-lock"]),
        (block() + "<lease><key>a</key></lease>", []),
        (block().replace("<source", "<source ") + block(path="/dev/vg/lv"), ["no-lock"]),
        (
            "<disk type='block'><driver cache='none'/><source dev='/dev/mapper/mpatha'>"
            "<reservations managed='yes'/></source></disk>",
            ["reservations-preempt"],
        ),
    ],
)
def test_a_lease_or_reservations_keep_a_second_host_out(devices: str, expected: list[str]) -> None:
    text = f"<domain type='kvm'><devices>{devices}</devices></domain>"
    assert [rule for rule, _ in found(read_libvirt(text.encode(), "f"))] == expected


@pytest.mark.parametrize(("action", "expected"), [("ignore", ["lock-failure-ignored"]), ("poweroff", [])])
def test_a_lease_is_worth_what_its_loss_does(action: str, expected: list[str]) -> None:
    rest = f"<on_lockfailure>{action}</on_lockfailure>"
    assert [rule for rule, _ in domain("<lease/>", rest)] == expected


def test_a_libvirt_domain_on_xen_moves_as_xen_does() -> None:
    disk = block("name='phy'")
    text = f"<domain type='xen'><devices>{disk}<lease/></devices></domain>"
    assert found(read_libvirt(text.encode(), "f")) == [("xen-requeue", "warning")]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("fencing resource-and-stonith;", []),
        ("fencing dont-care;", [("drbd-no-fencing", "warning")]),
        ("", [("drbd-no-fencing", "note")]),
        ("quorum majority;", []),
        ("quorum off;", [("drbd-no-fencing", "note")]),
        ("fencing resource-only; protocol B;", [("drbd-asynchronous", "warning")]),
        ("fencing resource-only; allow-two-primaries;", [("drbd-two-primaries", "error")]),
        ("fencing resource-only; after-sb-1pri consensus;", []),
        (
            "fencing resource-only; after-sb-2pri call-pri-lost-after-sb;",
            [("drbd-discards", "warning")],
        ),
    ],
)
def test_a_drbd_resource_is_judged_by_what_holds_for_it(net: str, expected: list[tuple[str, str]]) -> None:
    text = f"resource r {{ net {{ {net} }} }}"
    assert found(read_drbd(text.encode(), "f")) == expected


def test_what_holds_for_every_resource_is_found_once() -> None:
    text = b"common { net { allow-two-primaries; fencing resource-only; } }\nresource a { }\nresource b { }"
    assert found(read_drbd(text, "f")) == [("drbd-two-primaries", "error")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[handoff]\npolicy='drain'", ["handoff-no-fence"]),
        ("[handoff]\npolicy='stonith'", ["handoff-leaves-writes", "handoff-no-fence"]),
        ("[handoff]\npolicy='stonith'\n[storage]\nconflict='serialize'", ["handoff-no-fence"]),
        ("[handoff]\npolicy='epoch'", []),
        ("lab='sim'\n[guest]\nfrontend='blkfront'\n[handoff]\npolicy='preempt-abort'", []),
        (
            "lab='sim'\n[guest]\nfrontend='blkfront'\n[handoff]\npolicy='preempt'",
            ["xen-requeue", "handoff-leaves-writes", "handoff-no-fence"],
        ),
        ("[guest]\ndisk_errors='report'\n[handoff]\npolicy='preempt-abort'", ["errors-reported"]),
        ("[guest]\nreconnect_delay_s=5\n[handoff]\npolicy='epoch'", ["reconnect-resend"]),
        (
            "[guest]\nreconnect_delay_s=5\n[handoff]\npolicy='epoch'\n[storage]\nconflict='drop-on-disconnect'",
            [],
        ),
    ],
)
def test_a_specification_is_judged_by_policy_and_storage_together(text: str, expected: list[str]) -> None:
    assert sorted(spec(text)) == sorted(expected)


def test_the_command_that_shows_it_is_for_the_file_and_for_a_lab_that_can_play_it() -> None:
    rule = rule_named("handoff-leaves-writes")
    plain = lint(read_specification(b"seed = 1", "f"), "my.toml")
    stock = lint(read_specification(b"[storage]\nkind='nbdkit-memory'", "f"), "my.toml")
    piped = lint(read_specification(b"seed = 1", "f"), "(stdin)")
    assert command(rule, plain) == "jepsen-blk test my.toml --lab sim --nemesis lost-path-migration"
    assert command(rule, stock) == "jepsen-blk test my.toml --nemesis lost-path-migration"
    assert command(rule, piped) == "jepsen-blk test SPEC.toml --lab sim --nemesis lost-path-migration"


def test_a_name_cannot_speak_to_the_terminal() -> None:
    text = 'resource "a\x1b[2J" { net { allow-two-primaries; fencing resource-only; } }'
    (finding,) = lint(read_drbd(text.encode(), "f"), "f").findings
    assert "\x1b" not in finding.message


def test_a_rule_without_a_specification_says_what_shows_it() -> None:
    with pytest.raises(UserError, match="this shows it: jepsen-blk test --lab sim --nemesis failover:by=cut"):
        specification_of(rule_named("two-writers"))
    with pytest.raises(UserError, match="not two that are replicated"):
        specification_of(rule_named("drbd-discards"))
    with pytest.raises(UserError, match="did you mean 'no-lock'"):
        rule_named("no-lok")


def test_the_documentation_has_the_rules_as_they_are() -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    assert rules_page() in page


def test_the_verb_prints_places_levels_and_consequences_and_fails(tmp_path: Path) -> None:
    done = run("lint", str(FILES / "cluster-guest.xml"), str(FILES / "safe.toml"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (EXIT_FAIL, "")
    assert f"{FILES}/cluster-guest.xml:28: error reconnect-resend" in done.stdout
    assert "see it    jepsen-blk scenarios resend-on-reconnect" in done.stdout
    assert "cluster-guest.xml:67: not read: <qemu:commandline>" in done.stdout
    assert "5 writable disks): 3 errors, 7 warnings, 3 notes" in done.stdout
    assert "safe.toml (spec, its storage, guest and handoff): nothing unsafe found" in done.stdout


def test_a_default_that_is_unsafe_is_called_so_and_has_no_line(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("seed = 1\n[storage]\n")
    done = run("lint", "s.toml", cwd=tmp_path)
    assert done.stdout.startswith(
        "s.toml: error handoff-leaves-writes\n    handoff.policy 'requeue' (the default)"
    )
    told = json.loads(run("lint", "--json", "s.toml", cwd=tmp_path).stdout)
    assert [finding["line"] for finding in told["findings"]] == [None, None]


def test_notes_alone_do_not_fail(tmp_path: Path) -> None:
    (tmp_path / "g.cfg").write_text("memory = 5\ndisk = [ '/dev/vg/a,raw,xvda,w' ]\n")
    done = run("lint", "g.cfg", cwd=tmp_path)
    assert (done.returncode, "g.cfg:2: note xen-requeue" in done.stdout) == (EXIT_PASS, True)


def test_programs_get_one_object_with_all_of_it(tmp_path: Path) -> None:
    done = run("lint", "--json", str(FILES / "r0.res"), cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == EXIT_FAIL
    assert told["files"] == [{"file": str(FILES / "r0.res"), "format": "drbd"}]
    first = told["findings"][3]
    assert (first["line"], first["level"], first["rule"]) == (12, Level.ERROR, "drbd-two-primaries")
    assert first["leads_to"] == ["lost-write", "stale-overwrite"]
    assert all((first["message"], first["assumed"], first["see"], first["remedy"], first["source"]))
    rules = json.loads(run("lint", "--rules", "--json", cwd=tmp_path).stdout)
    assert [rule["rule"] for rule in rules] == list(RULES)


def test_what_cannot_be_read_is_said_and_the_rest_is_judged_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<domain>")
    done = run("lint", "bad.xml", "none.cfg", str(FILES / "safe.toml"), cwd=tmp_path)
    assert done.returncode == EXIT_USER
    assert "safe.toml" in done.stdout
    (line,) = done.stderr.splitlines()
    assert re.search(r"bad\.xml:1: not valid XML: .*; none\.cfg: cannot be read: No such file", line)


def test_a_mistake_of_the_user_is_one_line(tmp_path: Path) -> None:
    assert "no format 'xml'" in only_line(run("lint", "a", "--format", "xml", cwd=tmp_path), EXIT_USER)
    assert "give files, or one of" in only_line(run("lint", cwd=tmp_path), EXIT_USER)
    assert "give files, or one of" in only_line(run("lint", "a", "--rules", cwd=tmp_path), EXIT_USER)
    assert "no rule 'x'" in only_line(run("lint", "--explain", "x", cwd=tmp_path), EXIT_USER)


def test_the_verb_explains_a_rule_and_prints_the_specification_that_shows_it(tmp_path: Path) -> None:
    told = run("lint", "--explain", "xen-requeue", cwd=tmp_path)
    assert told.returncode == EXIT_PASS
    assert "xen-devel, August 2006" in " ".join(told.stdout.split())
    printed = run("lint", "--print", "xen-requeue", cwd=tmp_path)
    assert printed.stdout == (ROOT / "jepsen_blk/lint/shown/blkfront-migration.toml").read_text()
    listed = run("lint", "--rules", cwd=tmp_path)
    assert all(name in listed.stdout for name in RULES)
