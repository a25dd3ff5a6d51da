"""A real sshd for tests, by any user: OpenSSH in inetd mode behind a socket of ours on loopback.

The port is bound before anybody asks for it, every connection is one sshd that can be killed, and nothing
is left when the rig is closed. Root's sshd wants /run/sshd to exist; another user's does not.
"""

import contextlib
import getpass
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType

SSHD = "/usr/sbin/sshd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True, timeout=30
    )
    return path


class Sshd:
    """`command` takes the place of what a client asks for, which it finds in SSH_ORIGINAL_COMMAND."""

    def __init__(self, folder: Path, *, command: str = "", path: str = PATH) -> None:
        folder.mkdir()
        self.folder = folder
        self.key = make_key(folder / "key")
        self.host_key = make_key(folder / "host_key")
        (folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.config = folder / "sshd_config"
        self.config.write_text(
            f"HostKey {self.host_key}\nAuthorizedKeysFile {folder}/authorized_keys\n"
            "StrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nSetEnv PATH={path}\n"
            + (f"ForceCommand {command}\n" if command else "")
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._served: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.known_hosts = folder / "known_hosts"
        self.know()

    @property
    def argv(self) -> list[str]:
        return [SSHD, "-i", "-f", str(self.config), "-E", str(self.folder / "log")]

    def know(self) -> None:
        kind, key, *_ = self.host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def table(self, name: str, **more: object) -> str:
        """Return the host as a table of an inventory."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
            **more,
        }
        lines = (f"{key} = {json.dumps(value)}" for key, value in given.items())
        return f"[nodes.{name}]\n" + "\n".join(lines) + "\n"

    @property
    def connections(self) -> int:
        return len(self._served)

    def kill_connections(self) -> None:
        for sshd in self._served:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(sshd.pid, signal.SIGKILL)  # what clients run is in sessions of its own
            sshd.wait(10)

    def __enter__(self) -> "Sshd":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.kill_connections()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                end = connection.fileno()
                self._served.append(
                    subprocess.Popen(self.argv, stdin=end, stdout=end, stderr=end, start_new_session=True)
                )
