"""The watch over all tenants' keys and buckets, whether or not a job is under way: what changes is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from itertools import islice
from typing import Never

import structlog

from rekeyd.domain.errors import CustodyError, KeyForbiddenError, LedgerError, StoreError
from rekeyd.domain.key import KeyDescription, KeyFinding, KeyState, KmsKey, PlacedKey, key_finding
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.jobs.drift import dedicated_drift
from rekeyd.jobs.following import Following, alias_finding
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import TenantKey

log = structlog.get_logger()

_AT_ONCE = 16
"""So many keys, or buckets, are asked about at once."""
_WATCHED: tuple[KeyState, ...] = ("active", "unavailable", "archived")
_WRITABLE: tuple[KeyState, ...] = ("active", "unavailable")
"""A writer may still name such a key, where a rotation has left it in use."""
_ENDANGERED = frozenset({"key_pending_deletion"})
"""Faults after which the data will be lost for good, unless somebody acts."""


class KeyWatch:
    """Looks at every key, and at every dedicated bucket, on an interval."""

    def __init__(self, tools: Tools, actor: str) -> None:
        """`actor` is who is named in the audit trail where the state of a key changes."""
        self._tools = tools
        self._actor = actor
        self._following = Following(tools)
        self._endangered: dict[str, str] = {}
        """By key, the danger that is on record."""
        self._drifts: dict[str, str] = {}
        """By tenant, how its bucket wasn't as it should be at the last look: said once, counted every time."""

    async def run(self) -> Never:
        """Look until cancelled. What can't be reached is looked at the next time."""
        while True:
            try:
                await self.look()
            except LedgerError as error:
                log.warning("ledger_not_reached", error=str(error))
            await asyncio.sleep(self._tools.timings.key_watch_seconds)

    async def look(self) -> None:
        """Once at everything. Raises LedgerError."""
        keys = await self._tools.ledger.tenant_keys()
        await _some_at_once(self._look_at_key(key) for key in keys if key.state in _WATCHED)
        tenants = list(dict.fromkeys(key.tenant for key in keys))
        await _some_at_once(self._look_at_bucket(tenant, keys) for tenant in tenants)

    async def _look_at_key(self, key: TenantKey) -> None:
        named, metrics = key.placed, self._tools.metrics
        if named is None:
            return
        finding: KeyFinding | None
        try:
            description = await self._tools.custody.describe(named)
            finding = await self._finding(key, named, description)
        except KeyForbiddenError as error:
            description, finding = None, KeyFinding("key_access_denied", str(error))
        except CustodyError as error:
            metrics.count_key_check("custody_unavailable")
            log.warning("key_not_looked_at", key=named.arn, error=str(error))
            return
        metrics.count_key_check("usable" if finding is None else finding.fault)
        if finding is not None and finding.fault in _ENDANGERED:
            log.error("key_endangered", tenant=key.tenant, key=key.ref, advice=finding.advice)
            await self._note_endangered(key, finding)
        if description is not None:
            await self._follow(key, named, description, finding)
        if key.state == "archived":
            return
        state: KeyState = "active" if finding is None else "unavailable"
        reason = "" if finding is None else f"{finding.fault}: {finding.advice}"
        if await self._tools.ledger.observe_key(key.ref, state, reason, self._actor):
            say = log.info if finding is None else log.warning
            say("key_available" if finding is None else "key_unavailable", tenant=key.tenant, reason=reason)

    async def _note_endangered(self, key: TenantKey, finding: KeyFinding) -> None:
        """On record once: what is about to be lost can still be saved, and nobody may say that it wasn't told."""
        if self._endangered.get(key.ref) == finding.fault:
            return
        details = {"outcome": finding.fault, "advice": finding.advice}
        await self._tools.ledger.record_key("key.endangered", key.tenant, self._actor, key.ref, details)
        self._endangered[key.ref] = finding.fault

    async def _finding(
        self, key: TenantKey, named: PlacedKey, description: KeyDescription | None
    ) -> KeyFinding | None:
        if description is None:
            return KeyFinding("key_missing", f"there is no key {named.arn}")
        finding = key_finding(named, description, None)
        target_arn = description.alias_target_arn
        if finding is None or finding.fault != "key_alias_mismatch" or target_arn is None:
            return finding
        record, _ = await self._tools.ledger.placement(key.tenant)
        if record is not None and record.key_ref != key.ref:
            return None  # a former key's alias may point at its successor
        if isinstance(named, KmsKey) and _may_follow(record, key):
            return await alias_finding(self._tools, key.tenant, named, target_arn)
        return finding

    async def _follow(
        self, key: TenantKey, named: PlacedKey, description: KeyDescription, finding: KeyFinding | None
    ) -> None:
        """Have the tenant's data follow what was done to the key; a key with a fault isn't rotated from."""
        material_id = description.material_id
        successor = _successor(named, description) if finding is None else None
        if material_id in (None, key.material_id) and successor is None:
            return
        record, _ = await self._tools.ledger.placement(key.tenant)
        in_use = record is not None and record.phase == "dedicated" and record.key_ref == key.ref
        if material_id is not None:
            await self._following.material(key, material_id, in_use=in_use, actor=self._actor)
        if successor is not None and record is not None and _may_follow(record, key):
            await self._following.alias(key, successor, record.epoch)

    async def _look_at_bucket(self, tenant: str, keys: Sequence[TenantKey]) -> None:
        ledger = self._tools.ledger
        record, _ = await ledger.placement(tenant)
        if record is None or record.phase != "dedicated" or record.target is None or record.key_ref is None:
            return
        if await ledger.jobs(tenant=tenant, state="running"):
            return  # whoever changes the bucket looks at it, too
        drift = await self._drift(record, keys)
        if drift is None:
            return
        if drift:
            self._tools.metrics.count_key_check("bucket_drift")
        former = self._drifts.get(tenant, "")
        if drift != former:
            details = {"outcome": drift or "over", "target": str(record.target)}
            await ledger.record_key("bucket.drift", tenant, self._actor, record.key_ref, details)
        if drift and drift != former:
            log.error("bucket_drift", tenant=tenant, target=str(record.target), drift=drift)
        elif former and not drift:
            log.info("bucket_drift_over", tenant=tenant, target=str(record.target))
        self._drifts[tenant] = drift

    async def _drift(self, record: PlacementRecord, keys: Sequence[TenantKey]) -> str | None:
        """None where nobody can say."""
        usable = [key for key in keys if key.tenant == record.tenant and key.state in _WRITABLE]
        arns = {key.ref: key.arn for key in usable if key.arn is not None}
        assert record.target is not None, "dedicated without a target"
        default = arns.pop(record.key_ref or "", None)
        if default is None:
            return ""
        store = self._tools.store_of(record.target)
        try:
            others = sorted(arns.values())
            return await dedicated_drift(store, record.target.bucket, record.tenant, default, others)
        except StoreError as error:
            log.warning("bucket_not_looked_at", tenant=record.tenant, error=str(error))
            return None


def _successor(named: PlacedKey, description: KeyDescription) -> KmsKey | None:
    """The other key at which the alias points."""
    target_arn = description.alias_target_arn
    if not isinstance(named, KmsKey) or target_arn in (None, named.arn):
        return None
    return KmsKey(kind="kms", arn=target_arn, alias=named.alias)


def _may_follow(record: PlacementRecord | None, key: TenantKey) -> bool:
    """Whether an alias leads the tenant's data: one of its own, of the key under which they all are to lie.

    The alias of a key that was brought is ours, and moves when we rotate.
    """
    return (
        record is not None
        and record.phase == "dedicated"
        and record.key_ref == key.ref
        and key.kind == "kms"
        and key.state in _WRITABLE
    )


async def _some_at_once(calls: Iterable[Awaitable[None]]) -> None:
    waiting = iter(calls)
    while batch := list(islice(waiting, _AT_ONCE)):
        await asyncio.gather(*batch)
