"""The part of `SqlLedger` that is about revoking and reinstating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rekeyd.domain.job import Job, ReceivedJob
from rekeyd.domain.key import KeyState
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.port import Admission, JobClaim, TenantKey, TenantMove
from rekeyd.ledger.sql import arrivals, keys, revocation
from rekeyd.ledger.sql.methods import Transactions


class RevocationMethods(Transactions):
    """The port `RevocationLedger`."""

    async def admit_tenant_job(self, received: ReceivedJob, principal: str) -> Admission:
        return await self._write(revocation.admit_tenant_job, arrivals.Arrival(received, principal))

    async def approve_job(self, job_id: str, principal: str) -> Job:
        return await self._write(revocation.approve_job, job_id, principal)

    async def withdraw(self, claim: JobClaim) -> PlacementRecord:
        return await self._write(revocation.withdraw, claim)

    async def check_undoing(self, claim: JobClaim) -> None:
        await self._read(revocation.check_undoing, claim)

    async def lift_revocation(self, claim: JobClaim) -> PlacementRecord:
        return await self._write(revocation.lift_revocation, claim)

    async def tenant_keys(self, tenant: str | None = None) -> Sequence[TenantKey]:
        return await self._read(keys.tenant_keys, tenant)

    async def withdraw_key(
        self, claim: JobClaim, ref: str, state: KeyState, details: Mapping[str, object]
    ) -> None:
        await self._write(revocation.withdraw_key, claim, ref, state, details)
        await self._overwrite()

    async def tenant_moves_of(self, tenant: str) -> Sequence[TenantMove]:
        return await self._read(revocation.tenant_moves_of, tenant)

    async def other_claims_end_in(self, claim: JobClaim) -> float:
        return await self._read(revocation.other_claims_end_in, claim)

    async def note_result(self, claim: JobClaim, action: str, result: Mapping[str, object]) -> None:
        await self._write(revocation.note_result, claim, action, result)
