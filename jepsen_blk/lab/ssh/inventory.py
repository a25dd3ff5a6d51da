"""The hosts of a lab, from a file: a TOML inventory, or an OpenSSH configuration.

The second is what `vagrant ssh-config` prints. It has no word for sudo, so that is used for every user but
root: nothing of what a node is told to do may be done by another.
"""

from __future__ import annotations

import getpass
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import paramiko
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jepsen_blk.errors import UserError
from jepsen_blk.lab.ledger import LEDGER
from jepsen_blk.mistakes import mistakes, unknown_name

_KNOWN_HOSTS = Path("~/.ssh/known_hosts")
_NO_FILE = ("/dev/null", "none")
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$")]


@dataclass(frozen=True, slots=True)
class Host:
    """How a node is reached; without a key file the agent and the user's own keys are tried.

    `proxy` is a command whose standard streams are the connection, as OpenSSH's ProxyCommand.
    """

    name: str
    address: str
    port: int
    user: str
    key: Path | None
    known_hosts: Path
    sudo: bool
    proxy: tuple[str, ...]
    ledger: PurePosixPath

    @property
    def known_as(self) -> str:
        """The host's name in a known_hosts file."""
        return self.address if self.port == paramiko.config.SSH_PORT else f"[{self.address}]:{self.port}"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: str = Field(default_factory=getpass.getuser)
    key: Path | None = None
    known_hosts: Path = _KNOWN_HOSTS
    sudo: bool = False
    proxy_command: tuple[str, ...] = ()
    ledger: Annotated[str, Field(pattern="^/")] = str(LEDGER)


class _Inventory(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: Annotated[dict[_Name, _Table], Field(min_length=1)]


def read_inventory(path: Path) -> dict[str, Host]:
    """Return the hosts by name, in the file's order; `.toml` is an inventory, anything else OpenSSH's.

    Relative paths in an inventory are counted from its folder. Raises UserError with every mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: the inventory cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the inventory cannot be read: it is not UTF-8") from error
    hosts = _from_toml(path, text) if path.suffix == ".toml" else _from_openssh(path, text)
    for host in hosts.values():
        if host.key is not None and not host.key.is_file():
            raise UserError(f"{path}: {host.name}: there is no key file {host.key}")
    return hosts


def choose(hosts: dict[str, Host], names: list[str]) -> list[Host]:
    """Return the named hosts, or all without a name; raises UserError for a name that there is not."""
    for name in names:
        if name not in hosts:
            raise UserError(unknown_name("node", name, hosts))
    return [hosts[name] for name in dict.fromkeys(names or hosts)]


def _from_toml(path: Path, text: str) -> dict[str, Host]:
    try:
        tables = _Inventory.model_validate(tomllib.loads(text)).nodes
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {mistakes(error)}") from error
    hosts = {}
    for name, table in tables.items():
        key = None if table.key is None else path.parent / table.key.expanduser()
        known_hosts = path.parent / table.known_hosts.expanduser()
        words = {"%h": table.host, "%p": str(table.port), "%r": table.user}
        proxy = tuple(words.get(part, part) for part in table.proxy_command)
        ledger = PurePosixPath(table.ledger)
        hosts[name] = Host(
            *(name, table.host, table.port, table.user, key, known_hosts, table.sudo, proxy, ledger)
        )
    return hosts


def _from_openssh(path: Path, text: str) -> dict[str, Host]:
    try:
        config = paramiko.SSHConfig.from_text(text)
        names = [name for name in _named(text) if name in config.get_hostnames()]
        hosts = {name: _looked_up(path, name, config.lookup(name)) for name in names}
    except (paramiko.SSHException, ValueError) as error:
        raise UserError(f"{path}: {error}; an inventory in TOML has to end in .toml") from error
    if not hosts:
        raise UserError(f"{path}: no Host is named in it; an inventory in TOML has to end in .toml")
    return hosts


def _named(text: str) -> list[str]:
    """Return the hosts that a configuration names, in order, without its patterns."""
    lines = (line.split() for line in text.splitlines())
    names = [name for words in lines if words and words[0].lower() == "host" for name in words[1:]]
    return [name for name in dict.fromkeys(names) if not set(name) & set('*?!"')]


def _looked_up(path: Path, name: str, found: paramiko.SSHConfigDict) -> Host:
    address, port = found["hostname"], int(found.get("port", paramiko.config.SSH_PORT))
    user = found.get("user") or getpass.getuser()
    keys = list(found.get("identityfile", ()))
    files = found.get("userknownhostsfile", "").split()
    known_hosts = files[0].strip('"') if files and files[0] not in _NO_FILE else str(_KNOWN_HOSTS)
    proxy = shlex.split(found.get("proxycommand", ""))
    if jumps := found.get("proxyjump", ""):
        *before, last = jumps.split(",")
        via = ["-J", ",".join(before)] if before else []
        proxy = ["ssh", "-F", str(path), *via, "-W", f"[{address}]:{port}", last]
    return Host(
        name=name,
        address=address,
        port=port,
        user=user,
        key=Path(keys[0].strip('"')).expanduser() if keys else None,
        known_hosts=Path(known_hosts).expanduser(),
        sudo=user != "root",
        proxy=tuple(proxy),
        ledger=LEDGER,
    )
