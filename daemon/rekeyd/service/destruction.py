"""An archived key destroyed on request: only once nothing is under it, by a person's own rights, with the longest wait.

The daemon never does this, and needs no right to (docs/security.md, "break-glass").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rekeyd import __version__
from rekeyd.domain.custody import Errand, SwitchedKey, noted
from rekeyd.domain.errors import ConflictError, CustodyError, RefusedError
from rekeyd.domain.job import utc_timestamp
from rekeyd.jobs.needs import check_unneeded
from rekeyd.ledger.port import Ledger, TenantKey
from rekeyd.service.adapters import open_stores
from rekeyd.service.custody import open_custody
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """What became of it."""

    key: TenantKey
    switched: SwitchedKey
    proof: Mapping[str, object]
    """What was looked at."""


async def destroy_key(
    settings: Settings, ledger: Ledger, tenant: str, principal: str, ref: str
) -> DestroyedKey:
    """Have a key deleted by the key service, after its longest wait, once it is proven that nothing is under it.

    Every version in the tenant's buckets is looked at, ours too; the key's own canary, which proves that what is under
    it can't be read, doesn't count and stays. Writers can't write under an archived key: the rotation that archived it
    has narrowed the bucket's policy, and waited for their uploads. Then it is `destroyed` in the ledger, and after that
    deleted: whoever dies in between repeats the command. On record, refusals too.

    Raises RefusedError where it never can be, ConflictError as long as anything needs it; StoreError, CustodyError.
    """
    try:
        key = await _destroyable(ledger, tenant, ref)
        # One that is destroyed already may be so by a revocation: then nobody has looked yet.
        proof = await _proof(settings, ledger, key)
        key = await ledger.destroy_key(tenant, principal, ref, proof)
    except (RefusedError, ConflictError) as error:
        refused = {"outcome": "refused", "reason": str(error)}
        await ledger.record_key("key.not_destroyed", tenant, principal, ref, refused)
        raise
    assert key.arn is not None, "an archived key is somewhere"
    async with open_custody(settings, unwraps=False) as custody:
        try:
            switched = await custody.schedule_deletion(Errand(tenant, "key-destroy"), key.arn)
        except CustodyError as error:
            failed = {"outcome": "failed", "reason": str(error), "requests": noted(error.requests)}
            await ledger.record_key("key.deletion_scheduled", tenant, principal, ref, failed)
            raise
    details = {
        "outcome": switched.state,
        "deletes_at": utc_timestamp(switched.deletes_at),
        "requests": noted(switched.requests),
    }
    await ledger.record_key("key.deletion_scheduled", tenant, principal, ref, details)
    return DestroyedKey(key, switched, proof)


async def _destroyable(ledger: Ledger, tenant: str, ref: str) -> TenantKey:
    """The key, unless a look at it says already that it can't be destroyed. The ledger says the last word."""
    for key in await ledger.tenant_keys(tenant):
        if key.ref == ref:
            if key.kind != "kms" and key.state not in ("archived", "destroyed"):
                words = (
                    f"{ref} is {key.state}: only an archived key is destroyed (rotate to another one first)"
                )
                raise ConflictError(words)
            return key
    raise RefusedError("REF", f"is no key of {tenant}: see `rekeyd key list {tenant}`")


async def _proof(settings: Settings, ledger: Ledger, key: TenantKey) -> dict[str, object]:
    """What was looked at, and found not to need the key. Raises ConflictError for what does."""
    if key.kind == "kms" or key.arn is None:
        return {}
    moves = await ledger.tenant_moves_of(key.tenant)
    targets = list({(move.target.store, move.target.bucket): move.target for move in moves}.values())
    looked_at: dict[str, int] = {}
    async with open_stores(settings, Metrics(__version__)) as stores:
        for target in targets:
            if target.store not in stores:
                raise RefusedError(f"stores.{target.store}", f"is needed to look at {target}")
            at_once_max = settings.limits.objects_in_flight_max
            looked_at[target.bucket] = await check_unneeded(
                stores[target.store], target.bucket, key.ref, key.arn, key.changed_at, at_once_max
            )
    return {"looked_at": looked_at}
