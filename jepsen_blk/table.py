"""What every table of a specification is, whichever module describes it."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of the specification: no unknown key, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
