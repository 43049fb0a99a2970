"""The control object: what the target itself knows of its tenant's placement.

A ledger may be restored from a backup, or be a replica that lags: then it has forgotten, and can't know that it has.
What stands in the target is as new as the data there. So no change of placement takes effect that isn't written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.objects import OWN_PREFIX, Location

CONTROL_KEY = OWN_PREFIX + "control"

CONTROL_BYTES_MAX = 64 * 1024
"""The longest control object that is read: some hundred chains' heads, where there is one chain a daemon."""

AuditHeads = dict[str, tuple[int, str]]
"""By chain the number of a record, the last one at that time, and its hash."""


class ControlDocument(BaseModel):
    """What the control object says: where a tenant's placement is being led, and what the ledger knew then."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", populate_by_name=True)

    schema_name: Literal["rekeyd.control/1"] = Field(default="rekeyd.control/1", alias="schema")
    tenant: str
    source: str
    target: str
    phase: Literal["paused", "dedicated"]
    epoch: int
    returns_epoch: int | None
    """Of a pause: the epoch of its return, written beforehand, so that returning needs no target."""
    audit_heads: AuditHeads

    def text(self) -> str:
        """The one way to write it: equal texts are the same document."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def parse(cls, text: str | bytes) -> ControlDocument:
        """Read one. Raises ValueError for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"is no control object: {where} {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class KnownControl:
    """What the ledger knows of the control object in a move's target."""

    proposed: ControlDocument | None = None
    """The latest proposal: it may stand there already."""
    written_epoch: int | None = None
    """The epoch of the one that took effect last: it was seen to stand there. None before the first."""


ControlFault = Literal[
    "missing",  # the ledger has seen one there, and there is none any more
    "foreign",  # it is another tenant's, or another move's
    "unknown",  # the ledger has never heard of its epoch: it is older than the target
]


def control_fault(
    found: ControlDocument | None, known: KnownControl, tenant: str, source: Location, target: Location
) -> ControlFault | None:
    """What is wrong with the control object that was found, by its epoch; None where all is as the ledger knows it.

    A proposal may have been written although nobody recorded that; the one before it may still stand.
    """
    if found is None:
        return None if known.written_epoch is None else "missing"
    if (found.tenant, found.source, found.target) != (tenant, str(source), str(target)):
        return "foreign"
    proposed_epoch = None if known.proposed is None else known.proposed.epoch
    return None if found.epoch in (known.written_epoch, proposed_epoch) else "unknown"
