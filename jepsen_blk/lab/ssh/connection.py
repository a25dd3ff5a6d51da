"""One SSH connection to a host: made when it is needed, checked, kept alive, and made again when it broke.

The host's key has to be known from a file beforehand: a tester that takes whatever answers would let anybody
between it and its nodes decide what a storage did. Everything here blocks, within bounds, and belongs into
a thread.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import paramiko

from jepsen_blk.errors import LabError, UserError
from jepsen_blk.lab.ssh.inventory import Host

_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 5
_END_TIMEOUT_S = 5.0

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it has to say is in our errors


class Connection:
    """The connection to a host; safe to use from several threads."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None
        self._proxy: _Proxy | None = None

    def open_channel(self) -> paramiko.Channel:
        """Return a new channel, connecting first where there is no connection that works.

        Raises UserError for what the user has to mend (keys), LabError where the host cannot be reached.
        """
        with self._lock:
            if (transport := self._transport()) is not None:
                try:
                    return transport.open_session(timeout=_CONNECT_TIMEOUT_S)
                except paramiko.ChannelException as error:
                    raise LabError(
                        f"{self._place} refuses another command: {error}; see its MaxSessions"
                    ) from error
                except (paramiko.SSHException, EOFError, OSError):
                    self._end()  # it broke while nobody used it; nothing was asked of it yet
            self._connect()
            if (transport := self._transport()) is None:
                raise self._unreachable("the connection was closed at once")
            try:
                return transport.open_session(timeout=_CONNECT_TIMEOUT_S)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise self._unreachable(str(error)) from error

    def close(self) -> None:
        """End the connection; it is made again when it is needed."""
        with self._lock:
            self._end()

    def _transport(self) -> paramiko.Transport | None:
        """Return the connection while it is up."""
        transport = self._client.get_transport() if self._client else None
        return transport if transport is not None and transport.is_active() else None

    def _connect(self) -> None:
        self._end()
        host = self._host
        key = _load_key(host)
        client = self._client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_RefuseUnknown(host))
        with contextlib.suppress(FileNotFoundError):  # then no host is known
            client.load_system_host_keys(str(host.known_hosts))
        try:
            self._proxy = _Proxy(host.proxy) if host.proxy else None
            client.connect(
                host.address,
                host.port,
                host.user,
                pkey=key,
                allow_agent=key is None,
                look_for_keys=key is None,
                timeout=_CONNECT_TIMEOUT_S,
                banner_timeout=_CONNECT_TIMEOUT_S,
                auth_timeout=_CONNECT_TIMEOUT_S,
                sock=self._proxy.socket if self._proxy else None,
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            said = self._proxy.said() if self._proxy else ""
            self._end()
            raise self._why(error, said) from error
        except BaseException:
            self._end()
            raise
        if (transport := client.get_transport()) is not None:
            transport.set_keepalive(_KEEPALIVE_S)

    def _why(self, error: Exception, said: str) -> LabError | UserError:
        host = self._host
        if isinstance(error, paramiko.BadHostKeyException):
            return UserError(
                f"the host key of {self._place} has changed: it shows {_print(error.key)}, and "
                f"{host.known_hosts} has {_print(error.expected_key)}; if the host was installed anew, "
                f"run: ssh-keygen -R '{host.known_as}' -f {host.known_hosts}, then add its new key"
            )
        if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
            tried = f"the key {host.key}" if host.key else "the agent's keys and those in ~/.ssh"
            return UserError(
                f"{self._place} refuses {host.user} with {tried}; add the public key to authorized_keys "
                "there, or name another key in the inventory"
            )
        return self._unreachable(f"{error or type(error).__name__}{f': {said}' if said else ''}")

    def _unreachable(self, why: str) -> LabError:
        return LabError(f"{self._place} cannot be reached: {why}")

    @property
    def _place(self) -> str:
        return f"node {self._host.name} ({self._host.known_as})"

    def _end(self) -> None:
        client, self._client = self._client, None
        proxy, self._proxy = self._proxy, None
        if client is not None:
            client.close()
        if proxy is not None:
            proxy.close()


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    """Take no host key that is not known."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Raise UserError: say what the host shows, and how to make it known."""
        host = self._host
        scan = f"ssh-keyscan -p {host.port} {host.address} >> {host.known_hosts}"
        raise UserError(
            f"the host key of node {host.name} ({host.known_as}) is not in {host.known_hosts}: it shows "
            f"{_print(key)}; if that is what `ssh-keygen -l` says on the host, run: {scan}"
        )


class _Proxy:
    """A command whose standard streams are a connection, behind a socket that can be closed."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.socket, theirs = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the command
        with theirs:
            try:
                self._process = subprocess.Popen(
                    argv,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._said,
                    start_new_session=True,
                )
            except OSError as error:
                self.socket.close()
                self._said.close()
                raise UserError(f"the proxy command {argv[0]!r} cannot be run: {error}") from error

    def said(self) -> str:
        """Return what it wrote to its error output, on one line."""
        self._said.seek(0)
        return " | ".join(self._said.read().decode(errors="replace").split("\n")).strip(" |")

    def close(self) -> None:
        """End it."""
        self.socket.close()
        self._process.terminate()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()


def _load_key(host: Host) -> paramiko.PKey | None:
    """Read the host's key file; with a key of its own nothing else is tried."""
    if host.key is None:
        return None
    try:
        return paramiko.PKey.from_path(host.key)
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise UserError(
            f"the key {host.key} of node {host.name} is encrypted; run: ssh-add {host.key}, "
            "and leave `key` out"
        ) from error
    except (paramiko.SSHException, paramiko.pkey.UnknownKeyType, OSError, ValueError) as error:
        raise UserError(f"the key {host.key} of node {host.name} cannot be used: {error}") from error


def _print(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


@contextlib.contextmanager
def cut_off(channel: paramiko.Channel, after_s: float) -> Iterator[threading.Event]:
    """Close a channel's connection if what is done with it takes longer; the event says that it was.

    The connection and not the channel: closing that would wait for a host that does not answer.
    """
    cut, transport = threading.Event(), channel.get_transport()

    def close() -> None:
        cut.set()
        transport.close()

    timer = threading.Timer(after_s, close)
    timer.start()
    try:
        yield cut
    finally:
        timer.cancel()
