"""What a comparison knows of one run: a row, so small that ten thousand lie on disk and none in memory."""

from __future__ import annotations

from dataclasses import dataclass

from jepsen_blk.spec import Verdict


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A point of the matrix, without the seed; every field is a word of the matrix file.

    `frontend` is blkfront, qemu or qemu-reconnect; `storage` a conflict model of the policy target, or a
    stock target's kind; `nemesis` the name of a schedule of the matrix file.
    """

    lab: str
    frontend: str
    storage: str
    policy: str
    nemesis: str

    def __str__(self) -> str:
        return " / ".join((self.lab, self.frontend, self.storage, self.policy, self.nemesis))


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one run.

    `spec` is a digest of the whole specification but the seed, so that a row of another one is not taken for
    it. `anomalies` counts by kind. `blackouts_ms` has how long writes stood still at each migration,
    `latencies_ms` the 50th and 99th percentile of acknowledged writes in the guest, None without one;
    `ops_per_s` is by the host's clock. `run` is the folder that was kept of it, relative to the comparison's,
    empty if none was. `error` is why no verdict could be had: its lab did not start, its worker never
    answered.
    """

    cell: Cell
    seed: int
    spec: str
    verdict: Verdict
    anomalies: dict[str, int]
    reasons: tuple[str, ...]
    ops: int
    indeterminate: int
    migrations: int
    in_flight: int
    reissues: int
    blackouts_ms: tuple[float, ...]
    latencies_ms: tuple[float, float] | None
    ops_per_s: float
    seconds: float
    run: str = ""
    error: str = ""
