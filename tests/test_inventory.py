"""Inventories of hosts over SSH: what OpenSSH's own configuration says, and files that cannot be read."""

from pathlib import Path

import pytest

from jepsen_blk.errors import UserError
from jepsen_blk.lab.ssh.inventory import read_inventory


def test_hosts_are_those_that_an_openssh_configuration_names(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    config = tmp_path / "ssh-config"
    config.write_text(f"Host x\n  HostName 127.0.0.9\n  Port 2222\n  User vagrant\n  IdentityFile {key}\n")
    (host,) = read_inventory(config).values()
    said = (host.name, host.address, host.port, host.user, host.key)
    assert said == ("x", "127.0.0.9", 2222, "vagrant", key)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: the inventory cannot be read: No such file"):
        read_inventory(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"bytes: the inventory cannot be read: it is not UTF-8"):
        read_inventory(tmp_path / "bytes")
