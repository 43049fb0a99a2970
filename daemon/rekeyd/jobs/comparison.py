"""The ledger compared with every tenant's target as a daemon starts: one that is older must not be served.

A ledger that was restored from a backup, or a replica that lags, doesn't know that it is behind; the control objects
in the targets do. Attempts at jobs compare before they change anything. This is for all the others: tenants that
moved long ago, and such as the ledger has yet to hear of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

import structlog

from rekeyd.domain.control import CONTROL_KEY
from rekeyd.domain.errors import AccessDeniedError, DistrustedError, LedgerError, StoreError
from rekeyd.domain.objects import Location
from rekeyd.jobs.control import FoundControl, judge_control, read_control
from rekeyd.jobs.endings import Held
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import TenantMove
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.route import head_or_none

log = structlog.get_logger()

_TENANTS_AT_ONCE = 100
"""So many tenants' moves are in memory at once. How many are asked at once, the places for objects in flight say."""


class Comparison:
    """Compares all tenants once; those whose target can't be read again and again, until it can."""

    def __init__(self, tools: Tools, actor: str) -> None:
        """`actor` is who is named in the audit trail where a placement is no longer served, or is again."""
        self._tools = tools
        self._actor = actor
        self.complete = False
        """Whether every tenant was looked at, once at least."""

    async def run(self) -> None:
        """Compare until all tenants' control objects were read, or found absent."""
        tenants: frozenset[str] | None = None
        while True:
            try:
                tenants = await self._pass(tenants)
            except LedgerError as error:
                log.warning("ledger_not_reached", error=str(error))
            else:
                self.complete = True
                if not tenants:
                    return
            await asyncio.sleep(self._tools.timings.held_recheck_seconds)

    async def _pass(self, only: frozenset[str] | None) -> frozenset[str]:
        """Compare all tenants, or only these; gives those that couldn't be compared."""
        after, unread = "", set()
        while moves := await self._tools.ledger.tenant_moves(after, _TENANTS_AT_ONCE):
            after = moves[-1].tenant
            groups = [(tenant, list(group)) for tenant, group in groupby(moves, lambda move: move.tenant)]
            wanted = [each for each in groups if only is None or each[0] in only]
            compared = await asyncio.gather(*(self._compare(tenant, group) for tenant, group in wanted))
            unread |= {tenant for (tenant, _), done in zip(wanted, compared, strict=True) if not done}
        return frozenset(unread)

    async def _compare(self, tenant: str, moves: Sequence[TenantMove]) -> bool:
        """Compare one tenant's moves, and have its placement be served, or not; False where a target wasn't read."""
        for move in moves:
            if move.in_place:
                continue  # a rotation's: the control object is that of the move that led here
            try:
                async with self._tools.objects_in_flight:
                    held = await self._fault(move)
            except StoreError as error:
                log.warning("control_not_compared", tenant=tenant, target=str(move.target), error=str(error))
                return False
            if held is not None:
                if held.reason == "ledger_behind":
                    await self._tools.ledger.distrust_tenant(tenant, held.error, self._actor)
                log.error(held.reason, tenant=tenant, detail=held.error)
                return True
        await self._tools.ledger.trust_tenant(tenant, self._actor)
        return True

    async def _fault(self, move: TenantMove) -> Held | None:
        """What is wrong with a move's control object, if anything is.

        No claim keeps others from writing it meanwhile. What the ledger doesn't know is read once more: a daemon that
        wrote it committed that before, and what stands there still, after the ledger was asked, is unknown indeed.
        """
        ledger, objects = self._tools.ledger, self._tools.store_of(move.target).objects
        seen: FoundControl | None = None
        while True:
            found = await read_control(objects, move.target.bucket)
            if isinstance(found, Held):
                return found
            known = await ledger.known_control_of(move.move_id)
            held = await judge_control(ledger, move, found.document, known)
            if held is None or (seen is not None and found.document == seen.document):
                return held
            seen = found


async def check_unknown(objects: ObjectStore, tenant: str, target: Location) -> None:
    """Raises DistrustedError where a tenant that the ledger has never heard of has moved all the same.

    Only whether the control object is there counts: it can't be read where its key is disabled. A bucket that refuses
    us is none of ours. Raises StoreError where the store says nothing.
    """
    try:
        head = await head_or_none(objects, target.bucket, CONTROL_KEY)
    except AccessDeniedError as error:
        log.info("control_not_ours", tenant=tenant, target=str(target), error=str(error))
        return
    if head is not None:
        raise DistrustedError(
            f"{tenant}: {target.bucket} has a control object, and this ledger has never heard of the tenant: it is "
            "older than the target (restored from a backup, or a replica that lags?)"
        )
