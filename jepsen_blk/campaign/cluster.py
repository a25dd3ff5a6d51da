"""Runs on the workers of a Dask cluster: simulated ones anywhere, real ones where `lab` is declared.

    dask scheduler --port 8786
    dask worker tcp://10.0.0.1:8786                     # one for each processor: simulated runs
    dask worker tcp://10.0.0.1:8786 --resources lab=1   # on a machine with QEMU: one real lab at once

The scheduler gives what a dead worker had to another one. Each worker needs the same jepsen-blk.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING

from jepsen_blk import __version__
from jepsen_blk.campaign.worker import Job, Made, make_run
from jepsen_blk.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

LAB = "lab"
_CONNECT_S = 10
_RESTART_S = 30


class ClusterPool:
    """Implements Pool by dask.distributed; `real` says that some runs need a real lab.

    Raises UserError where the extra is not installed, nothing answers, or no worker can do what is asked.
    """

    def __init__(self, address: str, *, real: bool) -> None:
        self._address = address
        self._client = _connect(address)
        self._keys: dict[Future[Made], str] = {}
        self._numbers = itertools.count()
        try:
            self.width = self._workers(real)
        except BaseException:
            self._client.close()
            raise
        self._anywhere = self._client.get_executor(pure=False)
        self._on_labs = self._client.get_executor(pure=False, resources={LAB: 1})

    def submit(self, job: Job) -> Future[Made]:
        """Begin a run; raises UserError when the scheduler is gone."""
        if self._client.status != "running":
            raise UserError(f"--cluster {self._address}: the scheduler is gone; the same command goes on")
        executor = self._anywhere if job.spec.lab == "sim" else self._on_labs
        key = f"jepsen-blk-{self._client.id}-{next(self._numbers)}"
        future: Future[Made] = executor.submit(make_run, job, key=key)
        self._keys[future] = key
        future.add_done_callback(lambda done: self._keys.pop(done, None))
        return future

    def give_up(self, stuck: Collection[Future[Made]]) -> None:
        """Cancel the runs and start their workers again, where a nanny can."""
        keys = {self._keys[future] for future in stuck if future in self._keys}
        having = [worker for worker, held in self._client.processing().items() if keys & set(held)]
        for future in stuck:
            future.cancel()
        with contextlib.suppress(Exception):  # a worker without a nanny cannot, and is lost to the comparison
            self._client.restart_workers(having, timeout=_RESTART_S)

    def close(self) -> None:
        """Cancel what is under way and leave the cluster."""
        for future in list(self._keys):
            future.cancel()
        self._client.close()

    def _workers(self, real: bool) -> int:
        """Return how many runs the cluster makes at once."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        said = f"--cluster {self._address}"
        if not workers:
            raise UserError(f"{said}: it has no workers; start some: dask worker {self._address}")
        if real and not any(worker["resources"].get(LAB) for worker in workers.values()):
            raise UserError(
                f"{said}: no worker declares the resource {LAB!r}, which real guests need; start one on a "
                f"machine with QEMU: dask worker {self._address} --resources {LAB}=1"
            )
        try:
            versions = self._client.run(_version)
        except Exception as error:
            raise UserError(f"{said}: a worker cannot load jepsen-blk: {error}; install it there") from error
        others = {worker: version for worker, version in versions.items() if version != __version__}
        if others:
            worker, version = next(iter(others.items()))
            raise UserError(f"{said}: {worker} has jepsen-blk {version}, this is {__version__}")
        return sum(int(worker["nthreads"]) for worker in workers.values())


def _version() -> str:
    return __version__


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError(
            "--cluster needs dask.distributed: install it with pip install 'jepsen-blk[cluster]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is said by us
    try:
        return Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--cluster {address}: no scheduler answers there: {error or 'time-out'}; "
            "start one with: dask scheduler"
        ) from error
