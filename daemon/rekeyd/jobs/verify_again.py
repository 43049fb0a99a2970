"""A tenant's dedicated data, read again at any later time and compared with the evidence of their move and rotations.

Nothing is written to a store. What the tenant's writers have replaced or deleted since is theirs to: it is reported,
and fails nothing. What fails is damage: the very copy that was certified, with other bytes in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

import structlog

from rekeyd.domain.certificate import Certificate, certificate_of, verify_certificate
from rekeyd.domain.errors import ArchivedError, NotFoundError, PreconditionError
from rekeyd.domain.objects import Location, ObjectHead
from rekeyd.domain.signed import NotHeldError, PublicKey, utf8
from rekeyd.jobs.endings import Completed, Ending, Failed
from rekeyd.jobs.lineage import Expected, by_object, compared_with, expected_copies
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.tools import Tools
from rekeyd.jobs.watch import check_key
from rekeyd.stores.port import ObjectStore
from rekeyd.transfer.checksum import read_crc64nvme
from rekeyd.transfer.route import head_or_none
from rekeyd.transfer.side_by_side import side_by_side

log = structlog.get_logger()

Compared = Literal[
    "intact",  # the bytes that were certified, whatever else the copy is called by now
    "changed",  # other bytes, under another ETag: the tenant's writers have replaced it
    "missing",  # nothing stands there: the tenant's writers, or a rule of theirs, have deleted it
    "damaged",  # the very copy that was certified, and other bytes in it
    "unread",  # it lies in an archive: nobody can read it before it is restored
    "uncertified",  # the very copy that a rotation found, of whose bytes no evidence says anything
]

FORMER_SETTING = "audit.former_public_key_files"

SHOWN_MAX = 20
"""So many copies of each kind are named; all are counted."""

_COMPARED_AT_ONCE_MAX = 1000
"""So many copies are in memory at once."""
_CERTIFICATES_MAX = 1000
"""So many of a tenant's certificates are looked at, the latest."""


@dataclass(slots=True)
class Reverification:
    """What was found."""

    job_ids: Sequence[str]
    """Whose certificates it was compared with, in the order in which they came to be."""
    copies: Counter[Compared] = field(default_factory=Counter)
    other_keys: int = 0
    """Copies that lie under another key than was certified: after a rotation."""
    shown: dict[Compared, list[str]] = field(default_factory=dict)
    """Keys in the target of those that aren't intact."""
    evidence_fault: str | None = None
    """Why the evidence isn't what was certified: then nothing else here counts."""

    def note(self, key: str, compared: Compared, *, other_key: bool) -> None:
        """Count one copy."""
        self.copies[compared] += 1
        self.other_keys += other_key
        named = self.shown.setdefault(compared, [])
        if compared != "intact" and len(named) < SHOWN_MAX:
            named.append(key)

    def result(self) -> dict[str, object]:
        """As JSON, for whoever asked for it."""
        return {
            "certificate": self.job_ids[-1],
            "certificates": list(self.job_ids),
            "copies": dict(sorted(self.copies.items())),
            "under_other_keys": self.other_keys,
            "shown": {name: keys for name, keys in sorted(self.shown.items()) if keys},
            "evidence_fault": self.evidence_fault,
        }


async def verify_tenant(run: JobRun) -> Ending:
    """The story of a `verify` job: the tenant's data against its certificates. What was found is on record."""
    ledger = run.tools.ledger
    held = await check_key(run.tools, run.job, None)
    if held is not None:
        return held
    await ledger.begin_job(run.claim)
    await ledger.enter_phase(run.claim, "read")
    try:
        certificates = compared_with(await signed_certificates(run.tools, run.job.tenant))
    except NotHeldError as error:
        return Failed(f"a certificate in the ledger isn't what was signed: {error}")
    if not certificates:
        return Failed(f"{run.job.tenant} has no certificate with which its data could be compared")
    found = await verify_again(run.tools, certificates)
    await ledger.note_result(run.claim, "data.verified_again", found.result())
    await ledger.enter_phase(run.claim, "done")
    return ending_of(found)


async def signed_certificates(tools: Tools, tenant: str) -> list[Certificate]:
    """The tenant's certificates in their order, each signed by a key of ours: of this daemon's, or of before.

    Raises NotHeldError, naming the job, where one isn't; CustodyError where our own key can't be asked for.
    """
    ours = {key.fingerprint: key for key in (*tools.former_signers, await tools.signer.public_key())}
    texts = await tools.ledger.tenant_certificates(tenant, _CERTIFICATES_MAX)
    return [_signed(text, ours) for text in texts]


def _signed(text: str, ours: Mapping[str, PublicKey]) -> Certificate:
    claimed = certificate_of(text)
    signer = ours.get(claimed.signer)
    if signer is None:
        words = f"{claimed.job.id}: signed by {claimed.signer}; if that is yours, name it in {FORMER_SETTING}"
        raise NotHeldError("other_signer", words)
    try:
        return verify_certificate(utf8(text), signer)
    except NotHeldError as error:
        raise NotHeldError(error.fault.name, f"{claimed.job.id}: {error.fault.detail}") from error


async def verify_again(tools: Tools, certificates: Sequence[Certificate]) -> Reverification:
    """Read every copy that the certificates speak of, and compare its checksum with the evidence.

    They are those that `compared_with` gives, at least one. Raises what concerns all of the copies: KeyUnusableError,
    AccessDeniedError, a store that doesn't answer.
    """
    target = Location.parse(certificates[-1].target)
    objects = tools.store_of(target).objects
    found = Reverification([each.job.id for each in certificates])

    async def compare(expected: Expected) -> None:
        async with tools.objects_in_flight:
            compared, head = await _compare(tools, objects, target.bucket, expected)
        other_key = head is not None and head.encryption.key != expected.encryption_key
        found.note(expected.key, compared, other_key=other_key)

    try:
        async with aclosing(_batches(objects, certificates)) as batches:
            async for batch in batches:
                at_once_max = min(tools.objects_in_flight_max, len(batch))
                await side_by_side(batch, compare, at_once_max=at_once_max)
    except NotHeldError as error:
        found.evidence_fault = str(error)
    log.info("verified_again", tenant=certificates[-1].tenant, **found.result())
    return found


def ending_of(found: Reverification) -> Completed | Failed:
    """How a job ends that found this."""
    counted = ", ".join(f"{count} {name}" for name, count in sorted(found.copies.items())) or "no copies"
    if found.evidence_fault is not None:
        return Failed(f"the evidence isn't what was certified: {found.evidence_fault}")
    if found.copies["damaged"]:
        shown = ", ".join(repr(key) for key in found.shown["damaged"])
        return Failed(f"{counted}: {shown} have other bytes than were certified")
    whole = set(found.copies) <= {"intact"}
    return Completed(None if whole else f"of what was certified: {counted}")


async def _batches(
    objects: ObjectStore, certificates: Sequence[Certificate]
) -> AsyncGenerator[list[Expected]]:
    batch: list[Expected] = []
    async with aclosing(by_object(objects, certificates)) as found:
        async for leaves in found:
            batch += expected_copies(leaves)
            if len(batch) >= _COMPARED_AT_ONCE_MAX:
                yield batch
                batch = []
    if batch:
        yield batch


async def _compare(
    tools: Tools, objects: ObjectStore, bucket: str, expected: Expected
) -> tuple[Compared, ObjectHead | None]:
    """What became of one copy, and what the store says of what stands in its place."""
    head = await head_or_none(objects, bucket, expected.key, expected.version_id)
    if head is None:
        return "missing", None
    if head.archived:
        return "unread", head
    if head.version.size_bytes != expected.size_bytes:
        return _other(expected, head), head
    try:
        crc = await read_crc64nvme(objects, bucket, head.version, tools.means.reading)
    except ArchivedError:
        return "unread", head
    except NotFoundError:
        return "missing", None
    except PreconditionError:
        # Another one took its place while it was being read.
        return "changed", head
    return _judged(expected, head, crc), head


def _judged(expected: Expected, head: ObjectHead, crc: int) -> Compared:
    """What it is by its bytes. The very copy that is named, with others than the store itself says, is broken."""
    named = head.version.etag == expected.etag
    if expected.checksums - {crc} or (named and head.crc64nvme not in (None, crc)):
        return _other(expected, head)
    if expected.checksums:
        return "intact"
    return "uncertified" if named else "changed"


def _other(expected: Expected, head: ObjectHead) -> Compared:
    return "damaged" if head.version.etag == expected.etag else "changed"
