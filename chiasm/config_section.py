"""What every section of the configuration is made of."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class Contradiction(ValueError):
    """Values that are allowed one by one and not together; `found` has the field and the message of each."""

    def __init__(self, found: Sequence[tuple[str, str]]) -> None:
        super().__init__(" ".join(f"{field}: {message}" for field, message in found))
        self.found = tuple(found)


class Section(BaseModel):
    """One mapping of `cluster.yaml`: knows its fields and takes no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
