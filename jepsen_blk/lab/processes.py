"""Processes of a node that is reached by commands: named by number and start time, since numbers come again.

A signal that is sent later, by another controller perhaps, must not hit a stranger with the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_blk.errors import LabError
from jepsen_blk.lab.seams import Node

_STAT = 'cat "/proc/$1/stat" 2>/dev/null || [ ! -e "/proc/$1" ]'
_SIGNAL = """
stat=$(cat "/proc/$1/stat" 2>/dev/null) || exit 0
set -- "$1" "$2" "$3" ${stat##*) }
[ "${23}" = "$2" ] || exit 0
kill -s "$3" "$1" || [ ! -e "/proc/$1" ]
"""
"""After the last parenthesis comes the third field, which is $4 then; the start time is the 22nd."""
_STATE, _STARTED = 0, 19


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of a node; `started_ticks` is its start in clock ticks since the node's boot."""

    pid: int
    started_ticks: int


def parse_stat(line: str) -> tuple[ProcessId, str]:
    """Return the process and the letter of its state; raises LabError for another line."""
    fields = line.rpartition(") ")[2].split()
    try:
        return ProcessId(int(line.split()[0]), int(fields[_STARTED])), fields[_STATE]
    except (IndexError, ValueError) as error:
        raise LabError(f"{line.strip()[:200]!r} is no line of /proc/PID/stat") from error


def signal_argv(process: ProcessId, signal: str) -> tuple[str, ...]:
    """Return the command that sends a signal (its name without SIG); no error if the process is gone."""
    return ("sh", "-c", _SIGNAL, "sh", str(process.pid), str(process.started_ticks), signal)


async def state(node: Node, process: ProcessId) -> str:
    """Return the letter of the process's state; empty if it is gone."""
    done = await node.run(["sh", "-c", _STAT, "sh", str(process.pid)])
    if not done.stdout:
        return ""
    found, letter = parse_stat(done.stdout)
    return letter if found == process else ""
