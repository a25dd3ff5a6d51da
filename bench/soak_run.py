"""One run of a soak: `jepsen-blk test` in a process of its own, what came of it, and what it left."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from leftovers import MARK, Lab, wait_gone

from jepsen_blk.history.events import read_events
from jepsen_blk.judge import EVENTS, RESULTS
from jepsen_blk.store import latest

HANG, BROKEN = "hang", "broken"
_INTERRUPT_S = 20.0
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of one run; a line of the results."""

    matrix: str
    seed: int
    spec: str
    """Names the specification, so that a result of another one is not taken for it."""
    verdict: str
    kinds: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float
    begun: int
    proven: int
    healed: int
    leftovers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be made, in a folder of its own."""

    matrix: str
    seed: int
    folder: Path
    toml: str
    bound_s: float
    """A run that takes longer hangs."""

    @property
    def digest(self) -> str:
        """The short name of its specification."""
        return hashlib.sha256(self.toml.encode()).hexdigest()[:12]

    @property
    def key(self) -> tuple[str, int, str]:
        """What its line of the results is found by."""
        return self.matrix, self.seed, self.digest


async def make_run(job: Job) -> Finished:
    """Run `jepsen-blk test` on the job's specification; see what came of it and what is left."""
    shutil.rmtree(job.folder, ignore_errors=True)
    temporary = job.folder / "tmp"
    temporary.mkdir(parents=True)
    (job.folder / "spec.toml").write_text(job.toml)
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    with Lab() as lab:
        ended = await _run_bounded(job, {MARK: mark, "TMPDIR": str(temporary)}, mark, lab)
        seconds = round(time.monotonic() - begun, 1)
        left = await asyncio.to_thread(wait_gone, mark, lab)
    leftovers = [f"process {pid}: {_command(pid)}" for pid in left]
    leftovers += [f"temporary file {path.name}" for path in temporary.iterdir()]
    return _finished(job, ended, seconds, tuple(leftovers))


async def _run_bounded(job: Job, env: dict[str, str], mark: str, lab: Lab) -> bool:
    """Run the test and note which namespaces its lab has; return whether it ended by itself."""
    command = (
        "-m",
        "jepsen_blk",
        "test",
        str(job.folder / "spec.toml"),
        "--store",
        str(job.folder / "store"),
    )
    with (job.folder / "output").open("wb") as output:
        # The signal: no run goes on alone when the soak is killed. A session: Ctrl-C is the soak's to handle.
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", sys.executable, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **env, "PYTHONFAULTHANDLER": "1"},
            start_new_session=True,
        )
    ending = asyncio.create_task(process.wait())
    deadline = time.monotonic() + job.bound_s
    try:
        while time.monotonic() < deadline:
            done, _ = await asyncio.wait({ending}, timeout=_LOOK_EVERY_S)
            if done:
                return True
            lab.see(mark)
        process.send_signal(signal.SIGABRT)  # its output then says where it stood
        await ending
        return False
    finally:
        if not ending.done():
            process.send_signal(signal.SIGINT)
            await asyncio.wait({ending}, timeout=_INTERRUPT_S)
            if not ending.done():
                process.kill()
                await ending


def _finished(job: Job, ended: bool, seconds: float, leftovers: tuple[str, ...]) -> Finished:
    results: dict[str, Any] = {"verdict": BROKEN if ended else HANG, "anomalies": [], "reasons": []}
    store = job.folder / "store"
    if ended and (store / "latest").is_dir() and (latest(store) / RESULTS).is_file():
        results = json.loads((latest(store) / RESULTS).read_text())
    elif lines := (job.folder / "output").read_text(errors="replace").split("\n"):
        results["reasons"] = [line for line in lines if line][-1:]
    begun = 0
    if (store / "latest").is_dir():
        events = read_events(latest(store) / EVENTS)
        begun = sum((event.source, event.phase) == ("fault", "setup") for event in events)
    faults = results.get("faults", [])
    return Finished(
        matrix=job.matrix,
        seed=job.seed,
        spec=job.digest,
        verdict=results["verdict"],
        kinds=tuple(sorted({anomaly["kind"] for anomaly in results["anomalies"]})),
        reasons=tuple(results["reasons"]),
        seconds=seconds,
        begun=begun,
        proven=sum(fault["proven"] for fault in faults),
        healed=sum(fault["healed"] for fault in faults),
        leftovers=leftovers,
    )


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    except OSError:
        return "gone since"
