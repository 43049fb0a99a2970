"""A tenant's dedicated data, read again at any later time and compared with the evidence of their move.

Nothing is written to a store. What the tenant's writers have replaced or deleted since is theirs to: it is reported,
and fails nothing. What fails is damage: the very copy that was certified, with other bytes in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import structlog

from rekeyd.domain.certificate import Certificate, EvidenceSum, certificate_of
from rekeyd.domain.errors import ArchivedError, NotFoundError, PreconditionError
from rekeyd.domain.leaves import Copied, Leaf, VersionEvidence, crc64nvme_value
from rekeyd.domain.objects import Location, ObjectHead, ObjectVersion
from rekeyd.domain.signed import NotHeldError
from rekeyd.jobs.endings import Completed, Ending, Failed
from rekeyd.jobs.evidence_reading import evidence_lines
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
]

SHOWN_MAX = 20
"""So many copies of each kind are named; all are counted."""

_COMPARED_AT_ONCE_MAX = 1000
"""So many lines of the evidence are in memory at once."""


@dataclass(slots=True)
class Reverification:
    """What was found."""

    job_id: str
    """Whose certificate it was compared with."""
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
            "certificate": self.job_id,
            "copies": dict(sorted(self.copies.items())),
            "under_other_keys": self.other_keys,
            "shown": {name: keys for name, keys in sorted(self.shown.items()) if keys},
            "evidence_fault": self.evidence_fault,
        }


async def verify_tenant(run: JobRun) -> Ending:
    """The story of a `verify` job: the tenant's data against its latest certificate. What was found is on record."""
    ledger = run.tools.ledger
    held = await check_key(run.tools, run.job, None)
    if held is not None:
        return held
    await ledger.begin_job(run.claim)
    await ledger.enter_phase(run.claim, "read")
    text = await ledger.latest_certificate(run.job.tenant)
    if text is None:
        return Failed(f"{run.job.tenant} has no certificate with which its data could be compared")
    found = await verify_again(run.tools, certificate_of(text))
    await ledger.note_result(run.claim, "data.verified_again", found.result())
    await ledger.enter_phase(run.claim, "done")
    return ending_of(found)


async def verify_again(tools: Tools, certificate: Certificate) -> Reverification:
    """Read every copy that the certificate speaks of, and compare its checksum with the evidence.

    Raises what concerns all of them: KeyUnusableError, AccessDeniedError, a store that doesn't answer.
    """
    target = Location.parse(certificate.target)
    objects = tools.store_of(target).objects
    found, sums = Reverification(certificate.job.id), EvidenceSum()

    async def compare(leaf: Leaf) -> None:
        for version in leaf.versions:
            if version.target is None or version.marker or leaf.target_key is None:
                continue
            async with tools.objects_in_flight:
                compared, head = await _compare(tools, objects, target.bucket, leaf.target_key, version)
            other_key = head is not None and head.encryption.key != version.encryption_key
            found.note(leaf.target_key, compared, other_key=other_key)

    try:
        async for leaves in _leaves(objects, certificate, sums):
            at_once_max = min(tools.objects_in_flight_max, len(leaves))
            await side_by_side(leaves, compare, at_once_max=at_once_max)
        sums.check(certificate)
    except NotHeldError as error:
        found.evidence_fault = str(error)
    log.info("verified_again", tenant=certificate.tenant, **found.result())
    return found


def ending_of(found: Reverification) -> Completed | Failed:
    """How a job ends that found this."""
    counted = ", ".join(f"{count} {name}" for name, count in sorted(found.copies.items())) or "no copies"
    if found.evidence_fault is not None:
        return Failed(f"the evidence isn't that of the certificate of {found.job_id}: {found.evidence_fault}")
    if found.copies["damaged"]:
        shown = ", ".join(repr(key) for key in found.shown["damaged"])
        return Failed(f"{counted}: {shown} have other bytes than were certified")
    whole = set(found.copies) <= {"intact"}
    return Completed(None if whole else f"of what was certified: {counted}")


async def _leaves(
    objects: ObjectStore, certificate: Certificate, sums: EvidenceSum
) -> AsyncIterator[list[Leaf]]:
    leaves: list[Leaf] = []
    async for line in evidence_lines(objects, certificate):
        leaf = Leaf.of_data(line)
        sums.add(line, leaf)
        leaves.append(leaf)
        if len(leaves) == _COMPARED_AT_ONCE_MAX:
            yield leaves
            leaves = []
    if leaves:
        yield leaves


async def _compare(
    tools: Tools, objects: ObjectStore, bucket: str, key: str, version: VersionEvidence
) -> tuple[Compared, ObjectHead | None]:
    """What became of one copy, and what the store says of what stands in its place."""
    certified = version.target
    if certified is None or certified.crc64nvme is None:
        # It lies in the tenant's bucket: what it says is not ours to assert.
        raise NotHeldError("unreadable", f"no checksum of the copy {key!r}")
    head = await head_or_none(objects, bucket, key, certified.version_id)
    if head is None:
        return "missing", None
    if head.archived:
        return "unread", head
    if head.version.size_bytes != certified.size_bytes:
        return _other(certified, head.version), head
    try:
        crc = await read_crc64nvme(objects, bucket, head.version, tools.means.reading)
    except ArchivedError:
        return "unread", head
    except NotFoundError:
        return "missing", None
    except PreconditionError:
        # Another one took its place while it was being read.
        return "changed", head
    same = crc == crc64nvme_value(certified.crc64nvme)
    return ("intact" if same else _other(certified, head.version)), head


def _other(certified: Copied, found: ObjectVersion) -> Compared:
    return "damaged" if found.etag == certified.etag else "changed"
