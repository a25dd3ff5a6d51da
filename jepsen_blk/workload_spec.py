"""The [workload] of a specification: which workload the guest runs, and its options.

A package that is installed beside this one may bring a workload of its own: a model of its options here, and
the module that draws its operations in the guest (see workloads.source).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, SerializeAsAny, ValidationInfo
from pydantic.functional_validators import BeforeValidator, model_validator

from jepsen_blk.plugins import Catalogue, PluginError, UnknownName
from jepsen_blk.table import Table

STORED = "stored"
"""In the context of a validation: it is of a run that is over, whose packages may be gone by now."""


class WorkloadSpec(Table):
    """What every workload has; one of a package is a subclass with its own options and `agent_module`."""

    agent_module: ClassVar[str] = ""
    """The module that draws the operations in the guest; empty if the guest's image has it."""

    name: str
    blocks: Annotated[int, Field(ge=1, le=1 << 20)] = 256
    queue_depth: Annotated[int, Field(ge=1, le=256)] = 16
    overlapping_writes: bool = False


class RegisterSpec(WorkloadSpec):
    """A seeded mix of reads, writes and overwrite bursts over stamped blocks, some of them hot."""

    name: Literal["register"] = "register"
    hot_blocks: Annotated[int, Field(ge=0)] = 8
    hot_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    read_fraction: Annotated[float, Field(ge=0, le=1)] = 0.3
    burst_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    flush_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The part of all operations that are flushes; 0.02 where storage.cache is "volatile"."""

    @model_validator(mode="after")
    def _hot_set_fits(self) -> RegisterSpec:
        if self.hot_blocks > self.blocks:
            raise ValueError(f"hot_blocks ({self.hot_blocks}) is more than blocks ({self.blocks})")
        return self


class StoredWorkload(WorkloadSpec):
    """The workload of a run that is over: nothing of its package is needed to judge what it did."""

    model_config = ConfigDict(extra="allow")


def why_no_workload(name: str, item: Any) -> str:
    """Say why a class cannot be the options of the workload of that name; nothing if it can."""
    if not (isinstance(item, type) and issubclass(item, WorkloadSpec)):
        return "it is no subclass of jepsen_blk.workload_spec.WorkloadSpec"
    if not item.agent_module:
        return "it has no `agent_module`: the name of the module that draws its operations"
    if item.model_config.get("extra") != "forbid":
        return 'it takes unknown options: leave `extra="forbid"` as it is'
    if item.model_fields["name"].default != name:
        return f'its `name` has to be of the type Literal["{name}"] and "{name}" where it is not given'
    try:
        item.model_json_schema()
    except PydanticUserError as error:
        return f"its options cannot be validated: {' '.join(str(error).split())}"
    return ""


BUILT_IN = {"register": RegisterSpec}
CATALOGUE = Catalogue("workload", "jepsen_blk.workloads", BUILT_IN, why_no_workload)


def _validate(value: Any, info: ValidationInfo) -> Any:
    """Validate a table by the model of the workload that it names."""
    if not isinstance(value, dict):
        return value
    name = value.get("name", "register")
    if not isinstance(name, str):
        raise ValueError(f"name: Input should be a valid string, not {name!r}")
    if name not in BUILT_IN and (info.context or {}).get(STORED):
        return StoredWorkload.model_validate(value)
    try:
        model: type[BaseModel] = CATALOGUE.get(name)
    except (UnknownName, PluginError) as error:
        raise ValueError(str(error)) from error
    return model.model_validate(value)


Workload = Annotated[SerializeAsAny[WorkloadSpec], BeforeValidator(_validate)]
