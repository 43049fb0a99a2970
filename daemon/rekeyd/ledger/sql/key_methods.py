"""The part of `SqlLedger` that is about keys that tenants bring."""

from __future__ import annotations

from collections.abc import Mapping

from rekeyd.domain.custody import BroughtKey, Offer
from rekeyd.ledger.port import JobClaim, PendingImport, TenantKey
from rekeyd.ledger.sql import destruction, keys
from rekeyd.ledger.sql.methods import Transactions


class KeyMethods(Transactions):
    """The port `KeyLedger`."""

    async def begin_import(self, claim: JobClaim, ref: str) -> PendingImport | None:
        return await self._write(keys.begin_import, claim, ref)

    async def record_brought(self, claim: JobClaim, ref: str, brought: BroughtKey) -> None:
        await self._write(keys.record_brought, claim, ref, brought)
        await self._overwrite()

    async def refuse_brought(self, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
        await self._write(keys.refuse_brought, claim, ref, details)
        await self._overwrite()

    async def record_offer(self, tenant: str, principal: str, offer: Offer) -> None:
        await self._write(keys.record_offer, tenant, principal, offer)

    async def record_accepted(self, tenant: str, principal: str, brought: BroughtKey) -> TenantKey:
        return await self._write(keys.record_accepted, tenant, principal, brought)

    async def record_not_accepted(
        self, tenant: str, principal: str, ref: str, details: Mapping[str, object]
    ) -> None:
        await self._write(keys.record_not_accepted, tenant, principal, ref, details)

    async def destroy_key(
        self, tenant: str, principal: str, ref: str, proof: Mapping[str, object]
    ) -> TenantKey:
        return await self._write(destruction.destroy_key, tenant, principal, ref, proof)

    async def record_key(
        self, action: str, tenant: str, principal: str, ref: str, details: Mapping[str, object]
    ) -> None:
        await self._write(destruction.record_key, action, tenant, principal, ref, details)
