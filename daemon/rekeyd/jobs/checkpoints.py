"""Checkpoints of the audit trail: signed now and then, and written to where nobody can take them back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Never

import structlog

from rekeyd.custody.signing import Signer
from rekeyd.domain.checkpoint import (
    CHECKPOINT_SCHEMA,
    is_idle,
    next_checkpoint,
    parse_checkpoint,
)
from rekeyd.domain.errors import CustodyError, LedgerError, StoreError
from rekeyd.domain.job import utc_timestamp
from rekeyd.domain.objects import Attributes, Location
from rekeyd.domain.signed import NotHeldError, signed_text, signing_input, unverified_statement, utf8
from rekeyd.ledger.port import Checkpoint, Ledger
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import IfAbsent, ObjectStore
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.route import head_or_none

log = structlog.get_logger()

WRITTEN_AT_ONCE_MAX = 100
"""So many checkpoints are written elsewhere in one round."""


async def make_checkpoint(ledger: Ledger, signer: Signer, actor: str) -> bool:
    """Sign where all chains stand now; gives whether there is a new checkpoint.

    None is made where nothing is on record since the last one, nor where another daemon made one at the same time.
    Raises CustodyError, and NotHeldError where what the ledger has as the last one is no checkpoint.
    """
    last = await ledger.last_checkpoint()
    heads = await ledger.audit_heads()
    if not heads:
        return False
    if last is not None:
        statement, _ = unverified_statement(utf8(last.text), CHECKPOINT_SCHEMA)
        if is_idle(parse_checkpoint(statement), heads):
            return False
    public_key = await signer.public_key()
    number = 1 if last is None else last.number + 1
    at = utc_timestamp(await ledger.now()) or ""
    made = next_checkpoint(
        None if last is None else last.text, number, at, heads, public_key.fingerprint
    ).statement()
    text = signed_text(made, public_key, await signer.sign(signing_input(made)))
    return await ledger.record_checkpoint(Checkpoint(number, text), actor)


class _Deadline:
    """The right to write what nobody else writes otherwise: it can't be lost, but each call has an end."""

    def __init__(self, call_seconds_max: float) -> None:
        self._call_seconds_max = call_seconds_max

    def call_deadline(self) -> float:
        """See LiveClaim."""
        return asyncio.get_running_loop().time() + self._call_seconds_max

    def closing_deadline(self) -> float:
        """See LiveClaim."""
        return self.call_deadline()

    def unanswered(self, deadline: float) -> None:
        """See LiveClaim. The next round looks at what stands there."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where checkpoints are written as well."""

    objects: ObjectStore
    location: Location

    def key(self, number: int) -> str:
        """The key of one of them: in their order."""
        return f"{self.location.prefix}{number:012d}.json"


class Checkpoints:
    """Makes checkpoints on an interval, for as long as the daemon runs."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        actor: str,
        *,
        interval_seconds: float,
        elsewhere: Elsewhere | None,
        call_seconds_max: float,
    ) -> None:
        """`elsewhere` is None where they stay in the ledger."""
        self._ledger = ledger
        self._signer = signer
        self._actor = actor
        self._interval_seconds = interval_seconds
        self._elsewhere = elsewhere
        self._claim = _Deadline(call_seconds_max)

    async def run(self) -> Never:
        """Make one at once and then on the interval, until cancelled. What can't be done now is tried again then."""
        while True:
            await self.round()
            await asyncio.sleep(self._interval_seconds)

    async def round(self) -> None:
        """Make a checkpoint where one is due, and write what isn't written elsewhere yet. Logs what can't be done."""
        try:
            if await make_checkpoint(self._ledger, self._signer, self._actor):
                log.info("audit_checkpoint")
            if self._elsewhere is not None:
                await self._write(self._elsewhere)
        except (CustodyError, LedgerError, StoreError) as error:
            log.warning("audit_checkpoint_failed", error=str(error))
        except NotHeldError as error:
            log.error("audit_checkpoint_broken", error=str(error))  # noqa: TRY400 - the text says it all

    async def _write(self, elsewhere: Elsewhere) -> None:
        for checkpoint in await self._ledger.unwritten_checkpoints(WRITTEN_AT_ONCE_MAX):
            await self._write_one(elsewhere, checkpoint)

    async def _write_one(self, elsewhere: Elsewhere, checkpoint: Checkpoint) -> None:
        data, key = utf8(checkpoint.text), elsewhere.key(checkpoint.number)
        bucket = elsewhere.location.bucket
        head = await head_or_none(elsewhere.objects, bucket, key)
        if head is None:
            await elsewhere.objects.put(
                bucket,
                key,
                BytesContent(data),
                Attributes({"content-type": "application/json"}),
                condition=IfAbsent(),
                under=None,
                crc64nvme=crc64nvme(data),
                claim=self._claim,
            )
            head = await elsewhere.objects.head(bucket, key)
        async with elsewhere.objects.read(bucket, head.version) as stream:
            found = b"".join([chunk async for chunk in stream.chunks()])
        if found != data:
            raise StoreError(
                "checkpoint", f"{elsewhere.location}: another checkpoint {checkpoint.number} stands there"
            )
        await self._ledger.note_written(checkpoint.number)
