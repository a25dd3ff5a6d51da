"""Process 1 of a local lab: holds its namespaces, and takes everything down when the controller is gone.

Run as `python3 -I -S init.py` inside fresh user, network, mount and process namespaces. Its standard
input is a pipe of which only the controller holds the other end: when the controller ends, by SIGKILL
too, the read returns, process 1 exits, and the kernel kills every process of the namespace and drops
its networks and mounts.

Standard library only, and quick to start.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Make the lab's private /run, say that it is ready, then wait for the controller's end."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "jepsen-blk", "/run"], check=True)
    Path("/run/netns").mkdir()
    Path("/run/lab").mkdir()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans end here: let the kernel reap them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's; the lab ends in order
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
