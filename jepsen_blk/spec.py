"""The test specification: TOML in, a validated model out.

Every error is found at once and named with its place; an unknown key or policy is refused with
the choices, since a mistyped policy that silently fell back would test the wrong thing.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tomli_w
from pydantic import Field, ValidationError, model_validator

from jepsen_blk.cue_spec import Cue, GuestCue, InFlightCue
from jepsen_blk.deadline import Deadline
from jepsen_blk.errors import SpecError
from jepsen_blk.mistakes import mistakes
from jepsen_blk.schedule_spec import PhasesSpec, Schedule, faults_of
from jepsen_blk.stamp import BLOCK_BYTES
from jepsen_blk.storage.conflict import ConflictModel
from jepsen_blk.table import Table
from jepsen_blk.workload_spec import STORED, RegisterSpec, Workload


class HandoffPolicy(StrEnum):
    """What happens between "X is gone" and "Y may write"."""

    REQUEUE = "requeue"
    DRAIN = "drain"
    CANCEL_INITIATOR = "cancel-initiator"
    PREEMPT = "preempt"
    PREEMPT_ABORT = "preempt-abort"
    EPOCH = "epoch"
    SINGLE_WRITER = "single-writer"
    QUIESCE = "quiesce"
    STONITH = "stonith"


Verdict: TypeAlias = Literal["pass", "fail", "unknown"]
_FENCING = (
    HandoffPolicy.PREEMPT,
    HandoffPolicy.PREEMPT_ABORT,
    HandoffPolicy.EPOCH,
    HandoffPolicy.SINGLE_WRITER,
)
RESERVING = (HandoffPolicy.PREEMPT, HandoffPolicy.PREEMPT_ABORT)
"""What the persistent reservations of a SCSI target can do."""
_OF_POLICY = ("conflict", "backing", "flush", "cache", "ignore_flush")
"""What only the policy target can be told to be."""
_FLUSH_FRACTION = 0.02


class GuestSpec(Table):
    """The virtual machine."""

    memory_mb: Annotated[int, Field(ge=96, le=8192)] = 160
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    kernel: Path | None = None
    frontend: Literal["qemu", "blkfront"] = "qemu"
    """What stands between guest and storage: QEMU, which waits at a migration for what is in flight, or Xen's
    blkfront, which sends it again where the guest goes on. Only the lab "sim" has both."""
    disk_errors: Literal["stop", "enospc", "report"] = "stop"
    """Which failed requests stop the guest and are sent again when it is let run: all, only those that a full
    disk has failed, or none. The guest is told of the others."""
    reconnect_delay_s: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long the hypervisor tries to reach the storage again, to send there what was not answered, before a
    lost connection fails what is in flight."""

    @model_validator(mode="before")
    @classmethod
    def _blkfront_reports(cls, data: Any) -> Any:
        """Have blkfront tell the guest of errors, which is all it can do, unless the user says otherwise."""
        if isinstance(data, dict) and data.get("frontend") == "blkfront":
            return {"disk_errors": "report"} | data
        return data

    @model_validator(mode="after")
    def _blkfront_can(self) -> GuestSpec:
        if self.frontend == "blkfront" and (self.disk_errors != "report" or self.reconnect_delay_s):
            raise ValueError(
                "frontend 'blkfront' tells the guest of every error and does not reconnect: "
                "leave out disk_errors and reconnect_delay_s"
            )
        return self


class StorageSpec(Table):
    """The shared storage under test."""

    kind: Literal["policy", "nbdkit-memory", "qemu-storage-daemon", "tgt"] = "policy"
    conflict: ConflictModel = ConflictModel.ARRIVAL_ORDER
    write_latency_ms: Annotated[float, Field(ge=0, le=10_000)] = 2.0
    """Each write takes this long at least and twice as long at most."""
    flush: bool = False
    cache: Literal["none", "volatile"] = "none"
    """Whether a completed write is durable, or only once it is flushed: a power loss takes what is not."""
    ignore_flush: bool = False
    """Acknowledge each flush and do nothing, as storage does that lies."""
    backing: Path | None = None

    @property
    def outlives_server(self) -> bool:
        """Tell whether its content is not lost with its server."""
        in_file = self.kind in ("qemu-storage-daemon", "tgt")
        return in_file or self.backing is not None or self.cache == "volatile"

    @model_validator(mode="after")
    def _stock_has_no_policy(self) -> StorageSpec:
        if self.kind != "policy":
            for name in _OF_POLICY:
                if name in self.model_fields_set:
                    raise ValueError(f"{name} can be set for kind 'policy' only, not for {self.kind!r}")
        return self

    @model_validator(mode="after")
    def _cache_can_be_flushed(self) -> StorageSpec:
        if self.cache == "volatile" and not self.flush:
            raise ValueError("cache 'volatile' needs flush = true: nothing could be made durable without")
        if self.ignore_flush and self.cache != "volatile":
            raise ValueError("ignore_flush needs cache = 'volatile': without, what is completed is durable")
        return self


class HandoffSpec(Table):
    """The recovery policy."""

    policy: HandoffPolicy = HandoffPolicy.REQUEUE
    quiesce_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0


class NemesisSpec(Table):
    """One step of the schedule: a fault of the catalogue, its own options, and when it starts."""

    fault: str
    after_s: Annotated[float, Field(ge=0)] = 0.3
    when: Cue | None = None
    """What it waits for, after the pause, before it begins."""
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1
    options: dict[str, Any] = Field(default_factory=dict)


class ExpectSpec(Table):
    """How the test has to end, where that is known before."""

    verdict: Verdict
    anomalies: tuple[str, ...] = ()
    """The kinds, no others."""
    deadlines: dict[Deadline, Verdict] = Field(default_factory=dict)
    """The verdict under other deadlines."""

    @model_validator(mode="after")
    def _anomalies_fail(self) -> ExpectSpec:
        if self.anomalies and self.verdict == "pass":
            raise ValueError("anomalies: a test that passes finds none; leave them out, or expect 'fail'")
        return self


class Spec(Table):
    """A whole test."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "register"
    about: Annotated[str, Field(max_length=300)] = ""
    """What it is there to show."""
    lab: Literal["local", "sim"] = "local"
    """Real QEMU guests, or a simulation in virtual time; the command line simulates a test that does not say
    where there are no guests to be had. Only "sim" has the frontend blkfront, which implies it."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    time_limit_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    deadline: Deadline = Deadline.FENCE
    allow_idle_migration: bool = False
    stop_on_fail: bool = False
    """End the schedule at the first anomaly that is seen while the test runs."""
    guest: GuestSpec = GuestSpec()
    workload: Workload = RegisterSpec()
    storage: StorageSpec = StorageSpec()
    handoff: HandoffSpec = HandoffSpec()
    nemesis: tuple[NemesisSpec, ...] = ()
    schedule: Schedule | None = None
    expect: ExpectSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _flush_what_is_cached(cls, data: Any) -> Any:
        """Have the guest flush where the storage has a volatile cache, unless the user says how much."""
        if not isinstance(data, dict):
            return data
        storage, workload = data.get("storage"), data.get("workload", {})
        if not (isinstance(storage, dict) and isinstance(workload, dict)):
            return data
        if storage.get("cache") != "volatile" or workload.get("name", "register") != "register":
            return data
        return data | {"workload": {"flush_fraction": _FLUSH_FRACTION} | workload}

    @model_validator(mode="before")
    @classmethod
    def _blkfront_is_simulated(cls, data: Any) -> Any:
        """Simulate the frontend that no other lab has, unless the user names a lab."""
        guest = data.get("guest") if isinstance(data, dict) else None
        if isinstance(guest, dict) and guest.get("frontend") == "blkfront":
            return {"lab": "sim"} | data
        return data

    @model_validator(mode="after")
    def _lab_has_frontend(self) -> Spec:
        if self.guest.frontend != "qemu" and self.lab != "sim":
            raise ValueError(f"guest.frontend {self.guest.frontend!r} needs lab = 'sim'; this lab runs QEMU")
        return self

    @model_validator(mode="after")
    def _flushes_are_offered(self) -> Spec:
        workload = self.workload
        if isinstance(workload, RegisterSpec) and workload.flush_fraction and not self.storage.flush:
            raise ValueError("workload.flush_fraction needs a flush to ask for: set storage.flush = true")
        return self

    @model_validator(mode="after")
    def _stock_has_no_fencing(self) -> Spec:
        fencing = {"policy": _FENCING, "tgt": RESERVING}.get(self.storage.kind, ())
        lacking = [policy for policy in _FENCING if policy not in fencing]
        if self.handoff.policy in lacking:
            usable = ", ".join(policy for policy in HandoffPolicy if policy not in lacking)
            raise ValueError(
                f"handoff.policy {self.handoff.policy.value!r} needs a storage that can fence; "
                f"{self.storage.kind} can be used with {usable}"
            )
        return self

    @model_validator(mode="after")
    def _initiator_reconnects(self) -> Spec:
        if self.storage.kind == "tgt" and self.guest.reconnect_delay_s:
            raise ValueError(
                "guest.reconnect_delay_s cannot be set for storage.kind 'tgt': QEMU's iSCSI initiator "
                "logs in again for ever; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _one_schedule_that_fits(self) -> Spec:
        if self.schedule is None:
            return self
        if self.nemesis:
            raise ValueError("nemesis and schedule exclude each other: move the faults into schedule.items")
        if isinstance(self.schedule, PhasesSpec) and self.schedule.lasts_s > self.time_limit_s:
            raise ValueError(
                f"schedule: the phases take {self.schedule.lasts_s:g} s, time_limit_s is "
                f"{self.time_limit_s:g}; raise it, or shorten a phase's for_s"
            )
        return self

    @model_validator(mode="after")
    def _cues_can_come(self) -> Spec:
        steps = (*self.nemesis, *(faults_of(self.schedule) if self.schedule else ()))
        for step in steps:
            why = self._why_never(step.when)
            if why:
                raise ValueError(f"fault {step.fault}: its cue can never come: {why}")
        return self

    def _why_never(self, cue: Cue | None) -> str:
        blocks, errors = self.workload.blocks, self.guest.disk_errors
        if isinstance(cue, InFlightCue) and cue.block is not None and cue.block >= blocks:
            return f"when.block is {cue.block}, and the disk has {blocks} blocks"
        if isinstance(cue, GuestCue) and cue.state == "io-error" and errors == "report":
            return "guest.disk_errors = 'report' stops the guest at no error; use 'stop'"
        return ""

    @property
    def size_bytes(self) -> int:
        """Size of the disk under test."""
        return self.workload.blocks * BLOCK_BYTES


def load_spec(path: Path, overrides: dict[str, Any] | None = None) -> Spec:
    """Read a specification from a TOML file, with `overrides` (nested dicts) laid over it.

    Raises SpecError with every mistake and its place.
    """
    return make_spec(lay_over(_read(path), overrides or {}), origin=str(path))


def load_stored_spec(path: Path) -> Spec:
    """Read the specification of a run that is over, also where the package of its workload is gone.

    Raises SpecError as `load_spec` does.
    """
    return make_spec(_read(path), str(path), {STORED: True})


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the specification: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error


def make_spec(data: dict[str, Any], origin: str = "options", context: dict[str, Any] | None = None) -> Spec:
    """Validate `data`; raises SpecError naming `origin` and every mistake in one line."""
    try:
        return Spec.model_validate(data, context=context)
    except ValidationError as error:
        raise SpecError(f"{origin}: {mistakes(error)}") from error


def change_spec(spec: Spec, changes: dict[str, Any]) -> Spec:
    """Return the specification with `changes` (nested dicts) laid over it; SpecError as from load_spec."""
    return make_spec(lay_over(_told(spec), changes), "the changed specification")


def dump_spec(spec: Spec) -> str:
    """Write the complete specification as TOML, defaults and seed included."""
    return tomli_w.dumps(_told(spec))


def dump_brief_spec(spec: Spec) -> str:
    """Write as TOML the name, the seed and what is no default; all if less would be read otherwise."""
    told = spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    brief = tomli_w.dumps({"name": spec.name, "seed": spec.seed} | told)
    try:
        same = make_spec(tomllib.loads(brief)) == spec
    except SpecError:
        same = False
    return brief if same else dump_spec(spec)


def _told(spec: Spec) -> dict[str, Any]:
    data = spec.model_dump(mode="json", exclude_none=True)
    if spec.storage.kind != "policy":
        for name in _OF_POLICY:
            data["storage"].pop(name, None)
    return data


def lay_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the nested dicts of `over` laid over it."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = lay_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
