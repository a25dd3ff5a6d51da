"""`python3 -m workloads.agent --device /dev/vda --port /dev/vport0p1`: the guest's one process.

Its end is the guest's end: 0 after the host's `bye`, 1 when the link or the device cannot be used.
"""

import sys

from workloads.agent.link import Port
from workloads.agent.machine import LinuxMachine
from workloads.agent.service import Agent

_USAGE = "usage: python3 -m workloads.agent --device PATH --port PATH"


def main(arguments: list[str]) -> int:
    """Serve until the host says bye; return the exit code."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if len(arguments) != 4 or set(options) != {"--device", "--port"}:
        sys.stderr.write(_USAGE + "\n")
        return 254
    try:
        Agent(LinuxMachine(options["--device"]), Port(options["--port"])).serve()
    except (OSError, EOFError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
