"""Recomputing the audit trail's chains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from rekeyd.domain.audit import AuditRecord, BrokenChain, first_broken
from rekeyd.ledger.port import AuditLedger


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """A chain, how many of its records were read, and the first that doesn't hold, if one doesn't."""

    chain: str
    records: int
    broken: BrokenChain | None


async def verify_chains(ledger: AuditLedger) -> list[ChainFinding]:
    """Recompute every chain from its first record on; memory doesn't grow with their length."""
    return [await _verify_chain(ledger, chain) for chain in await ledger.chains()]


async def _verify_chain(ledger: AuditLedger, chain: str) -> ChainFinding:
    counted = _Counted(ledger.audit_records(chain), asyncio.get_running_loop())
    # The decision takes a plain iterable, the ledger gives an asynchronous one: a thread lies between.
    broken = await asyncio.to_thread(first_broken, chain, counted)
    return ChainFinding(chain, counted.records, broken)


class _Counted:
    """An asynchronous iterator of records as a plain one, for use in another thread than its loop's."""

    def __init__(self, records: AsyncIterator[AuditRecord], loop: asyncio.AbstractEventLoop) -> None:
        self.records = 0
        self._source = records
        self._loop = loop

    def __iter__(self) -> Iterator[AuditRecord]:
        while (
            record := asyncio.run_coroutine_threadsafe(self._following(), self._loop).result()
        ) is not None:
            self.records += 1
            yield record

    async def _following(self) -> AuditRecord | None:
        return await anext(self._source, None)
