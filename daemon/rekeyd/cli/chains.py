"""Recomputing the audit trail's chains, and checking the signatures under its checkpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rekeyd.domain.audit import AuditRecord, BrokenChain, first_broken
from rekeyd.domain.checkpoint import document_hash, signed_checkpoint, verify_checkpoint
from rekeyd.domain.signed import NotHeldError, PublicKey
from rekeyd.ledger.port import Ledger

CHECKPOINTS_READ_MAX = 1000
"""So many checkpoints are in memory at once."""

PublicKeys = Mapping[str, PublicKey]
"""Those that may have signed a checkpoint, by their fingerprints."""


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """A chain, how many of its records were read, and the first that doesn't hold, if one doesn't."""

    chain: str
    records: int
    broken: BrokenChain | None


@dataclass(frozen=True, slots=True)
class BrokenCheckpoint:
    """The first checkpoint that doesn't hold, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class TrailFinding:
    """What was found of the whole audit trail."""

    chains: tuple[ChainFinding, ...]
    checkpoints: int
    """How many were checked."""
    broken_checkpoint: BrokenCheckpoint | None

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return self.broken_checkpoint is None and all(chain.broken is None for chain in self.chains)


async def verify_trail(
    ledger: Ledger, public_keys: Callable[[], Awaitable[PublicKeys]], outside: Iterable[str] = ()
) -> TrailFinding:
    """Recompute every chain from its first record on, then check every checkpoint against them.

    `outside` are checkpoints that were kept elsewhere, where nobody who holds the ledger can take them back: each must
    be in it as it is. Without any, whoever holds ledger and signing key may have made all of it anew. Raises
    NotHeldError for one that none of the keys has signed.

    Memory doesn't grow with the chains' length, save for a hash a checkpoint. The keys are asked for only where there
    is a checkpoint.
    """
    recorded: dict[int, str] = {}
    kept = await _signed(outside, public_keys)
    chains = tuple([await _verify_chain(ledger, chain, recorded) for chain in await ledger.chains()])
    number, previous = 0, None
    keys: PublicKeys = {}
    while page := await ledger.checkpoints(number, CHECKPOINTS_READ_MAX):
        keys = keys or await public_keys()
        for checkpoint in page:
            number += 1
            if checkpoint.number != number:
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, "is missing"))
            try:
                statement = verify_checkpoint(checkpoint.text, number, previous, keys)
            except NotHeldError as error:
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, str(error)))
            if recorded.pop(number, None) != document_hash(checkpoint.text):
                reason = "isn't the one that the audit trail has on record"
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, reason))
            if kept.pop(number, checkpoint.text) != checkpoint.text:
                reason = "isn't the one that was kept elsewhere: the trail was made anew"
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, reason))
            if not await ledger.knows_heads(statement.heads):
                reason = "names a record that the audit trail doesn't have"
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, reason))
            previous = checkpoint.text
    broken = BrokenCheckpoint(min(recorded), "is on record, and missing") if recorded else None
    if kept and broken is None:
        reason = "was kept elsewhere, and is missing here: the trail was cut off, or made anew"
        broken = BrokenCheckpoint(min(kept), reason)
    return TrailFinding(chains, number, broken)


async def _signed(texts: Iterable[str], public_keys: Callable[[], Awaitable[PublicKeys]]) -> dict[int, str]:
    kept: dict[int, str] = {}
    for text in texts:
        found = signed_checkpoint(text, await public_keys())
        if kept.setdefault(found.number, text) != text:
            raise NotHeldError("contradictory", f"two checkpoints {found.number} were kept, and differ")
    return kept


async def _verify_chain(ledger: Ledger, chain: str, recorded: dict[int, str]) -> ChainFinding:
    counted = _Counted(ledger.audit_records(chain), asyncio.get_running_loop(), recorded)
    # The decision takes a plain iterable, the ledger gives an asynchronous one: a thread lies between.
    broken = await asyncio.to_thread(first_broken, chain, counted)
    return ChainFinding(chain, counted.records, broken)


class _Counted:
    """An asynchronous iterator of records as a plain one, for use in another thread than its loop's.

    It notes on the way which checkpoints are on record, by their numbers and hashes.
    """

    def __init__(
        self,
        records: AsyncIterator[AuditRecord],
        loop: asyncio.AbstractEventLoop,
        recorded: dict[int, str],
    ) -> None:
        self.records = 0
        self._source = records
        self._loop = loop
        self._recorded = recorded

    def __iter__(self) -> Iterator[AuditRecord]:
        while (
            record := asyncio.run_coroutine_threadsafe(self._following(), self._loop).result()
        ) is not None:
            self.records += 1
            if '"action":"audit.checkpoint"' in record.body:
                self._note(record.body)
            yield record

    def _note(self, body: str) -> None:
        try:
            found = json.loads(body)
            self._recorded[int(found["number"])] = str(found["sha256"])
        except (ValueError, KeyError, TypeError):
            # Then the record's hash is wrong as well, and that is what is reported.
            return

    async def _following(self) -> AuditRecord | None:
        return await anext(self._source, None)
