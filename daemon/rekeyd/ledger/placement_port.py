"""What may be asked of the ledger about placements and keys. The guarantees are those of `rekeyd.ledger.port`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rekeyd.domain.control import AuditHeads, ControlDocument, KnownControl
from rekeyd.domain.job import Job
from rekeyd.domain.key import KeyState
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.values import JobClaim, TenantMove


class PlacementLedger(Protocol):
    """Placements and the state of keys.

    A pause is proposed (`propose_pause`), written to the control object in the target, and begins (`change_placement`).
    The switch is its own proposal (`switch`): from its commit on the tenant is dedicated for good, and nobody writes;
    once the control object says so, too, writing is opened (`open_writes`).
    """

    async def now(self) -> float:
        """The database's time."""

    async def placement(self, tenant: str) -> tuple[PlacementRecord | None, float]:
        """The tenant's record, None where there is none, and a time no later than that at which it was read.

        A pause past its deadline has ended: that is committed before it is told, by this very call where need be.
        Raises LedgerError where it can't be.
        """

    async def propose_pause(self, claim: JobClaim) -> ControlDocument:
        """Propose the next pause; gives what the control object in the move's target has to say before it begins.

        Its epoch is higher than any that was ever proposed. One that was proposed and hasn't begun is given again.
        The audit heads are those after the proposal's own record. Raises ConflictError for a tenant that is
        `dedicated`.
        """

    async def change_placement(
        self, claim: JobClaim, step: Callable[[PlacementRecord, float], PlacementRecord]
    ) -> PlacementRecord:
        """Take the step from the record as it stands and the time now, by compare-and-set on the epoch.

        `step` is pure and may be called again; what it raises is raised and nothing is changed. A pause begins only
        under the epoch proposed for the claim's move: ConflictError. Whoever begins it has written the control object.
        Raises ConflictError also where the tenant is dedicated by another move, or under another key.
        """

    async def switch(
        self, claim: JobClaim, step: Callable[[PlacementRecord, float], PlacementRecord]
    ) -> PlacementRecord:
        """`change_placement` to `dedicated`, and in the same transaction the comparison that allows it.

        It is ordered with a return by deadline (`placement`): whichever is committed first excludes the other.
        It leaves the control object that is to be written as the proposal, see `known_control`.
        Raises ConflictError, and changes nothing, unless the move's rows count as verified under the terms of the
        claim's job (its key and its `verify`), the latest pass was made in the pause now in force, is
        listed, has no open segment, and every listed object is verified or excluded with a reason.
        """

    async def open_writes(self, claim: JobClaim, ttl_seconds: float) -> PlacementRecord:
        """Set `writes_from` one time to live from a time that is read after the commit of `dedicated`; once.

        Whoever asks has written the control object that `switch` proposed. Raises ConflictError unless the tenant is
        `dedicated` by the claim's move and under its job's key.
        """

    async def known_control(self, claim: JobClaim) -> KnownControl:
        """What is known of the control object in the target of the claim's move."""

    async def knows_heads(self, heads: AuditHeads) -> bool:
        """Whether each of these records is in the audit trail, with this very hash."""

    async def distrust_placement(self, claim: JobClaim, reason: str) -> None:
        """From now on the tenant's placement isn't served from this ledger, which is older than the target."""

    async def trust_placement(self, claim: JobClaim) -> None:
        """It is again. Trusted already, it is no change and no audit record."""

    async def tenant_moves(self, after: str, tenants_max: int) -> Sequence[TenantMove]:
        """All moves of the next `tenants_max` tenants after that one, by tenant, whatever became of their jobs."""

    async def known_control_of(self, move_id: int) -> KnownControl:
        """What is known of the control object in this move's target now."""

    async def distrust_tenant(self, tenant: str, reason: str, actor: str) -> None:
        """`distrust_placement` for a tenant that no job is worked on for."""

    async def trust_tenant(self, tenant: str, actor: str) -> None:
        """`trust_placement`, likewise."""

    async def set_key_state(self, claim: JobClaim, state: KeyState) -> None:
        """Record the state of the job's key; a state that it has already is no change and no audit record."""

    async def observe_key(self, ref: str, state: KeyState, reason: str, actor: str) -> bool:
        """Record that a key that was `active` is `unavailable`, or the other way round; gives whether that is news.

        A key in any other state stays in it.
        """

    async def keep_canary(self, claim: JobClaim, token: str) -> str:
        """Record by which token the canary in the claim's target is known, before it is written there.

        The first one that is recorded for a move stays. Gives that.
        """

    async def canary(self, job: Job) -> str | None:
        """The token that is recorded for the job's move; None where none is, so that nothing was written yet."""
