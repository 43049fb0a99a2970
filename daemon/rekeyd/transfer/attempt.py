"""An attempt at one object: what it has come to know, and the outcome that it ends in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.evidence import Verdict
from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import Copy, ObjectOutcome, ObjectRow
from rekeyd.transfer.verify import Verification

CONFLICT = "conflict"
"""How the reason of an object begins whose place in the target is taken by content that we did not write."""

PASSING = "unavailable"
"""How the reason of an object begins that failed by an error of the kind that passes."""

NEEDS_RESTORE = "needs restore"
"""How the reason of an object begins that lies in an archive and can't be read before it is restored."""

UNMOVABLE = "unmovable"
"""How the reason of an object begins that can't be moved as it is."""

SETTLEMENTS_MAX = 2
"""How often in one attempt the target may turn out to hold something else than the condition said."""


@dataclass(slots=True)
class Attempt:
    """What an attempt has come to know, kept also where it fails."""

    row: ObjectRow
    target: ObjectVersion | None
    copies: tuple[Copy, ...] | None = None
    """What is known to stand in a target that keeps versions; None as long as nothing new is."""
    copy_requests: tuple[str, ...] | None = None
    """The ids of the requests that made what stands in the target; None as long as nothing new is known."""

    def in_vain(self, reason: str, attempts_max: int, verdict: Verdict | None = None) -> ObjectOutcome:
        """What to record of an attempt that didn't end in a verified copy."""
        state: Literal["failed", "listed"] = "failed" if self.row.attempts + 1 >= attempts_max else "listed"
        return self._given(state, reason, verdict)

    def in_vain_for_good(self, reason: str) -> ObjectOutcome:
        """What to record where trying again would change nothing."""
        return self._given("failed", reason)

    def stale(self, reason: str) -> ObjectOutcome:
        """What to record where the source has another version by now, or none."""
        return self._given("stale", reason)

    def _given(
        self, state: Literal["failed", "listed", "stale"], reason: str, verdict: Verdict | None = None
    ) -> ObjectOutcome:
        return ObjectOutcome(
            self.row.source,
            state,
            reason,
            verdict,
            self.target,
            copies=self.copies,
            copy_requests=self.copy_requests,
        )

    def unverified(self, verification: Verification, attempts_max: int) -> ObjectOutcome:
        """What to record of a copy that isn't equal, or can't be shown to be."""
        judgement = verification.judgement
        reason = f"{judgement.verdict}: {', '.join(judgement.reasons)}"
        return self.in_vain(reason, attempts_max, judgement.verdict)


def ids_of(request_id: str) -> tuple[str, ...]:
    """A request as it is recorded: nothing where the store gave it no name."""
    return (request_id,) if request_id else ()


def planned_by_us(found: ObjectVersion, planned: Sequence[ObjectVersion]) -> bool:
    """Whether what the target holds is, by all that can be told, a copy of one of the versions planned.

    The bucket is ours alone until the switch, so its size is enough to tell which of our copies it is.
    """
    return any(version.size_bytes == found.size_bytes for chain in planned for version in chain.chain)
