"""Recomputing the audit trail's chains, and checking the signatures under its checkpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rekeyd.domain.audit import AuditRecord, BrokenChain, first_broken
from rekeyd.domain.certificate import CERTIFICATE_SCHEMA, Certificate, certificate_of, verify_certificate
from rekeyd.domain.checkpoint import document_hash, signed_checkpoint, verify_checkpoint
from rekeyd.domain.signed import NotHeldError, PublicKey, utf8
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
    broken_certificate: str | None = None
    """The job whose certificate was kept elsewhere, and names a record that the trail doesn't have."""

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        whole = all(chain.broken is None for chain in self.chains)
        return whole and self.broken_checkpoint is None and self.broken_certificate is None


async def verify_trail(
    ledger: Ledger, public_keys: Callable[[], Awaitable[PublicKeys]], outside: Iterable[str] = ()
) -> TrailFinding:
    """Recompute every chain from its first record on, then check every checkpoint against them.

    `outside` are checkpoints, and certificates, that were kept elsewhere, where nobody who holds the ledger can take
    them back: each checkpoint must be in it as it is, and so must the records that a certificate names as the last ones
    of then. Without any, whoever holds ledger and signing key may have made all of it anew. Raises NotHeldError for one
    that none of the keys has signed.

    Memory doesn't grow with the chains' length, save for a hash a checkpoint. The keys are asked for only where there
    is a checkpoint.
    """
    recorded: dict[int, str] = {}
    kept = await _kept(outside, public_keys)
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
            if kept.checkpoints.pop(number, checkpoint.text) != checkpoint.text:
                reason = "isn't the one that was kept elsewhere: the trail was made anew"
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, reason))
            if not await ledger.knows_heads(statement.heads):
                reason = "names a record that the audit trail doesn't have"
                return TrailFinding(chains, number - 1, BrokenCheckpoint(number, reason))
            previous = checkpoint.text
    broken = BrokenCheckpoint(min(recorded), "is on record, and missing") if recorded else None
    if kept.checkpoints and broken is None:
        reason = "was kept elsewhere, and is missing here: the trail was cut off, or made anew"
        broken = BrokenCheckpoint(min(kept.checkpoints), reason)
    unknown = await _first_unknown(ledger, kept.certificates)
    return TrailFinding(chains, number, broken, broken_certificate=unknown)


@dataclass(slots=True)
class _Kept:
    """What was kept elsewhere, each signed with one of the keys."""

    checkpoints: dict[int, str] = field(default_factory=dict)
    certificates: list[Certificate] = field(default_factory=list)


async def _kept(texts: Iterable[str], public_keys: Callable[[], Awaitable[PublicKeys]]) -> _Kept:
    kept = _Kept()
    for text in texts:
        keys = await public_keys()
        if f'"schema":"{CERTIFICATE_SCHEMA}"' in text:
            kept.certificates.append(_certificate(text, keys))
            continue
        found = signed_checkpoint(text, keys)
        if kept.checkpoints.setdefault(found.number, text) != text:
            raise NotHeldError("contradictory", f"two checkpoints {found.number} were kept, and differ")
    return kept


def _certificate(text: str, public_keys: PublicKeys) -> Certificate:
    signer = public_keys.get(certificate_of(text).signer)
    if signer is None:
        raise NotHeldError("other_signer", "a certificate is signed by a key that isn't known")
    return verify_certificate(utf8(text), signer)


async def _first_unknown(ledger: Ledger, certificates: Iterable[Certificate]) -> str | None:
    """The job of the first certificate that names a record which the trail doesn't have."""
    for certificate in certificates:
        if not await ledger.knows_heads(certificate.audit_heads):
            return certificate.job.id
    return None


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
