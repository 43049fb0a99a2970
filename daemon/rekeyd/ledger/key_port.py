"""What may be asked of the ledger about keys that tenants bring. The guarantees are those of `rekeyd.ledger.port`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rekeyd.domain.custody import BroughtKey, Offer
from rekeyd.ledger.values import JobClaim, PendingImport, TenantKey


class KeyLedger(Protocol):
    """Keys on their way into the key service.

    What was wrapped is in the ledger from the admission of its job to its import, refusal or withdrawal, or the end of
    the last job that names it. Then it is overwritten where it lay, and the log that had it is cut, as soon as nobody
    reads who began before.
    """

    async def begin_import(self, claim: JobClaim, ref: str) -> PendingImport | None:
        """What is to be imported for this key of the claim's tenant; None where there is nothing, or no more."""

    async def record_brought(self, claim: JobClaim, ref: str, brought: BroughtKey) -> None:
        """The key is imported, in this place; what was wrapped is forgotten. Repeating it changes nothing.

        A `destroyed` one is `revoked` then: withdrawn still, but there. Raises ConflictError where another key has
        this place.
        """

    async def refuse_brought(self, claim: JobClaim, ref: str, details: Mapping[str, object]) -> None:
        """What was wrapped can't become a key, for these reasons: it is forgotten, and on record."""

    async def record_offer(self, tenant: str, principal: str, offer: Offer) -> None:
        """A key without material was prepared for the tenant, on record."""

    async def record_accepted(self, tenant: str, principal: str, brought: BroughtKey) -> TenantKey:
        """The tenant has imported this key: jobs of the tenant may name it. Repeating it changes nothing.

        Raises RefusedError where it is another tenant's.
        """

    async def record_not_accepted(
        self, tenant: str, principal: str, ref: str, details: Mapping[str, object]
    ) -> None:
        """What the tenant sent for a key can't be accepted, for these reasons."""

    async def destroy_key(
        self, tenant: str, principal: str, ref: str, proof: Mapping[str, object]
    ) -> TenantKey:
        """An archived key under which nothing is, as `proof` says, is `destroyed` from now on.

        Destroyed so already, nothing changes. Raises RefusedError where the key isn't the tenant's, or is one that its
        owner has to delete; ConflictError, saying why, as long as it is in use, or may be: in another state, named by
        an unfinished job, of a tenant that isn't dedicated.
        """

    async def record_key(
        self, action: str, tenant: str, principal: str, ref: str, details: Mapping[str, object]
    ) -> None:
        """Put on record what was done to a key, or refused, without a job."""
