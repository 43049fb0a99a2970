"""A claim as the store port sees one: it lasts, until it is said to be lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rekeyd.domain.errors import ClaimLostError


@dataclass(slots=True)
class Claim:
    """Every call may take so many seconds; what got no answer is kept."""

    seconds: float = 30.0
    lost: bool = False
    asked: int = 0
    asked_max: int | None = None
    """After so many questions it is lost."""
    unanswered_deadlines: list[float] = field(default_factory=list)

    def call_deadline(self) -> float:
        """See LiveClaim."""
        self.asked += 1
        if self.lost or (self.asked_max is not None and self.asked > self.asked_max):
            raise ClaimLostError("lost")
        return asyncio.get_running_loop().time() + self.seconds

    def closing_deadline(self) -> float:
        """See LiveClaim."""
        return self.call_deadline()

    def unanswered(self, deadline: float) -> None:
        """See LiveClaim."""
        self.unanswered_deadlines.append(deadline)
