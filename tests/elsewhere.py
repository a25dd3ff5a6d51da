"""The command line as on a system that is not Linux: `python tests/elsewhere.py PLATFORM VERB...`.

What only Linux or only Unix has is taken away, and whoever asks for it fails: modules cannot be imported,
attributes are gone, no loop or process of the system can be made, and the local lab is not there. The
packages of others are imported before that: what they do elsewhere is theirs, and their word.
"""

import asyncio
import builtins
import importlib
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import types
from typing import Any

OTHERS = (
    *("typer", "rich.live", "rich.console", "numpy", "pydantic", "tomli_w", "msgspec", "networkx", "jinja2"),
    *("plotly.graph_objects", "plotly.offline", "multiprocessing", "concurrent.futures.process", "zoneinfo"),
)
OF_UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline")
OF_LINUX_LAB = (
    "jepsen_blk.lab.local",
    "jepsen_blk.lab.ssh",
    "jepsen_blk.storage.target.plugin",
    "paramiko",
    "qemu",
)
GONE: dict[types.ModuleType, dict[str, tuple[str, ...]]] = {
    os: {
        "linux": (
            "setns",
            "unshare",
            "pidfd_open",
            "sched_getaffinity",
            "memfd_create",
            "eventfd",
            "O_DIRECT",
        ),
        "unix": (
            *(
                "geteuid",
                "getuid",
                "getgid",
                "fork",
                "killpg",
                "setsid",
                "getpgid",
                "mkfifo",
                "mknod",
                "uname",
            ),
            *(
                "pread",
                "pwrite",
                "statvfs",
                "chown",
                "sysconf",
                "nice",
                "getloadavg",
                "O_NONBLOCK",
                "O_DIRECTORY",
            ),
        ),
    },
    signal: {
        "linux": ("pidfd_send_signal",),
        "unix": (
            "SIGKILL",
            "SIGHUP",
            "SIGUSR1",
            "SIGSTOP",
            "SIGCONT",
            "SIGCHLD",
            "pthread_sigmask",
            "setitimer",
        ),
    },
    select: {"linux": ("epoll",), "unix": ("poll",)},
    socket: {"linux": ("AF_VSOCK", "AF_NETLINK", "AF_PACKET"), "unix": ("AF_UNIX", "socketpair")},
}


def move_to(platform: str) -> None:
    """Take away what the platform ("darwin", "win32") does not have."""
    for name in OTHERS:
        importlib.import_module(name)
    kinds = ("linux",) if platform == "darwin" else ("linux", "unix")
    for module, names in GONE.items():
        for name in (name for kind in kinds for name in names[kind]):
            if hasattr(module, name):
                delattr(module, name)
    forbidden = OF_LINUX_LAB if platform == "darwin" else (*OF_LINUX_LAB, *OF_UNIX)
    really_import = builtins.__import__

    def import_(name: str, *args: Any, **kwargs: Any) -> Any:
        if any(name == gone or name.startswith(f"{gone}.") for gone in forbidden):
            raise ModuleNotFoundError(f"{platform} has no {name}", name=name)
        return really_import(name, *args, **kwargs)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(f"{platform} cannot do that")

    builtins.__import__ = import_
    for name in forbidden:
        sys.modules.pop(name, None)
    asyncio.SelectorEventLoop.__init__ = refuse  # type: ignore[method-assign]
    asyncio.SelectorEventLoop.add_signal_handler = refuse  # type: ignore[method-assign]
    subprocess.Popen.__init__ = refuse  # type: ignore[method-assign]
    real_open = pathlib.Path.open

    def open_(path: pathlib.Path, *args: Any, **kwargs: Any) -> Any:
        if str(path).startswith(("/proc", "/dev", "/sys")):
            raise FileNotFoundError(2, "no such file", str(path))
        return real_open(path, *args, **kwargs)

    real_exists = pathlib.Path.exists
    pathlib.Path.open = open_  # type: ignore[method-assign]
    pathlib.Path.exists = lambda path, **options: (
        not str(path).startswith("/proc")
        and real_exists(  # type: ignore[method-assign]
            path, **options
        )
    )
    if platform == "win32":
        os.symlink = refuse
    sys.platform = platform


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    move_to(sys.argv[1])

    from jepsen_blk.cli import main

    raise SystemExit(main(sys.argv[2:]))
