"""What may be asked of the ledger about revoking and reinstating. The guarantees are those of `rekeyd.ledger.port`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rekeyd.domain.job import Job, ReceivedJob
from rekeyd.domain.key import KeyState
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.values import Admission, JobClaim, TenantKey, TenantMove


class RevocationLedger(Protocol):
    """Jobs about a tenant where it is, those that overtake all of its others, and the keys that they are about."""

    async def admit_tenant_job(self, received: ReceivedJob, principal: str) -> Admission:
        """Store a job about a tenant where it is (it rotates, revokes, reinstates, verifies), unless it is known.

        With a revocation that is to begin at once, `withdraw` is part of the same transaction: from its commit on
        nothing of the tenant's is claimed, renewed or about to be deleted any more, and a reinstatement that was
        asked for before has ended, however far it was.
        Raises ConflictError for a known id with another body, and RefusedError naming the field: `tenant` where it
        has no key here, or isn't `dedicated` and is to be verified or rotated; `key` where it is another tenant's, or
        withdrawn; `undoes` where it isn't the job that revoked the tenant. A refusal is an audit record, too.
        """

    async def approve_job(self, job_id: str, principal: str) -> Job:
        """Agree to what a held job asks for (`needs_approval`), or accept how it stands (`readable_elsewhere`).

        Then it is due at once. Raises UnknownJobError; ConflictError for a job that waits for neither, and for an
        approval by the very principal who handed the job in.
        """

    async def withdraw(self, claim: JobClaim) -> PlacementRecord:
        """Have nobody read, write or work for the claim's tenant: gives its placement, which is `revoked` then.

        Its other unfinished jobs are held: their claims have ended, their leases stay. A pause ends. A tenant that was
        revoked by another job stays so by that one, unless a reinstatement of it had begun, or this one destroys.
        Repeating it changes nothing: what a later revocation has taken over stays with that.
        """

    async def check_undoing(self, claim: JobClaim) -> None:
        """Whether the claim's reinstatement may still give anything back: asked before each such call.

        Raises ClaimLostError unless the claim is in force, which no later revocation leaves it; ConflictError where
        another job than the one that it undoes has revoked the tenant.
        """

    async def lift_revocation(self, claim: JobClaim) -> PlacementRecord:
        """Undo what the job named by the claim's revoked: placement, states of keys, jobs that were held for it.

        Revocations that have taken effect and are unfinished are cancelled. Raises ConflictError where the tenant isn't
        revoked by it. Repeating it changes nothing.
        """

    async def tenant_keys(self, tenant: str | None = None) -> Sequence[TenantKey]:
        """All keys of a tenant, or of all tenants, the oldest first."""

    async def withdraw_key(
        self, claim: JobClaim, ref: str, state: KeyState, details: Mapping[str, object]
    ) -> None:
        """Record that the key is `revoked` or `destroyed` by the claim's job, and how that was done."""

    async def tenant_moves_of(self, tenant: str) -> Sequence[TenantMove]:
        """All moves of a tenant."""

    async def other_claims_end_in(self, claim: JobClaim) -> float:
        """In how many seconds the last lease ends on the tenant's other jobs or their segments; 0 for none."""

    async def note_result(self, claim: JobClaim, action: str, result: Mapping[str, object]) -> None:
        """Record what the job found or did, in the job and, as this action, in the audit trail. Equal is no news."""
