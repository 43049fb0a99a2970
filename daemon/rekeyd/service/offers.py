"""Keys that tenants import without us ever holding them: prepared, and accepted."""

from __future__ import annotations

from rekeyd.domain.custody import Errand, KeyHome, OfferAnswer, noted
from rekeyd.domain.errors import KeyRefusedError, KeyStateError, RefusedError
from rekeyd.domain.objects import Location
from rekeyd.domain.offer import AnswerDocument, OfferDocument
from rekeyd.ledger.port import Ledger, TenantKey
from rekeyd.service.custody import open_custody
from rekeyd.settings import Settings


async def offer_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, ref: str | None
) -> OfferDocument:
    """A key that waits for the tenant's material; with `ref`, that very key once more. On record.

    Raises RefusedError where the key isn't the tenant's, or has its material; CustodyError.
    """
    target = await _target(settings, ledger, tenant)
    if target.store not in settings.stores:
        raise RefusedError(f"stores.{target.store}", f"is needed to make a key for {target}")
    home = KeyHome(settings.stores[target.store].region, target.bucket)
    async with open_custody(settings, unwraps=False) as custody:
        try:
            offer = await custody.offer(Errand(tenant, "key-offer"), home, ref)
        except KeyStateError as error:
            raise RefusedError("--ref", str(error)) from error
    await ledger.record_offer(tenant, principal, offer)
    return OfferDocument.of(tenant, offer)


async def accept_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, document: AnswerDocument
) -> TenantKey:
    """Import what the tenant wrapped for the key service; jobs of the tenant may name the key from then on.

    Repeating it changes nothing. Raises RefusedError saying what to do, on record, too; CustodyError.
    """
    known = [key for key in await ledger.tenant_keys() if document.ref in (key.ref, key.arn)]
    if any(key.tenant != tenant or key.kind != "accepted" for key in known):
        reason = "is another tenant's key, or was brought otherwise: `rekeyd key offer` makes one"
        await ledger.record_not_accepted(tenant, principal, document.ref, {"reason": reason})
        raise RefusedError("ref", reason)
    return await _accept(settings, ledger, tenant, principal, document.answer())


async def _accept(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, answer: OfferAnswer
) -> TenantKey:
    async with open_custody(settings, unwraps=False) as custody:
        try:
            brought = await custody.accept(Errand(tenant, "key-accept"), answer)
        except (KeyRefusedError, KeyStateError) as error:
            details = {"reason": str(error), "requests": noted(error.requests)}
            await ledger.record_not_accepted(tenant, principal, answer.ref, details)
            if isinstance(error, KeyStateError):
                raise RefusedError("ref", str(error)) from error
            raise
    return await ledger.record_accepted(tenant, principal, brought)


async def _target(settings: Settings, ledger: Ledger, tenant: str) -> Location:
    """Where the tenant's data are, or will be: the key's policy lets it be used for that bucket alone."""
    record, _ = await ledger.placement(tenant)
    if record is not None and record.target is not None:
        return record.target
    _, target_pattern = settings.require_patterns()
    return target_pattern.locate(tenant, "tenant")
