"""How an attempt at a job ends: a value, which the worker writes into the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from rekeyd.domain.job import HeldReason


@dataclass(frozen=True, slots=True)
class Completed:
    """All is done. `remark` is for a person: what remains in the source, say."""

    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It can't be done as it is asked for."""

    error: str


@dataclass(frozen=True, slots=True)
class Held:
    """It waits for a person or for the outside world."""

    reason: HeldReason
    error: str
    by_itself: bool = True
    """Whether it is looked at again without a person's asking: where the world may mend it unseen."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is to be done for a while; nobody needs to hold its claim."""

    due_in_seconds: float


Ending = Completed | Failed | Held | Waiting
