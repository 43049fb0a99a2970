"""Evidence, written with the tenant's data: one line for each object, in files of bounded size, under the tenant's key.

The same rows make the same files, so an attempt that comes after a crash finds what stands there already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rekeyd.domain.certificate import (
    SHOWN_MAX,
    EvidenceFacts,
    EvidenceSum,
    Kept,
    evidence_key,
    evidence_prefix,
)
from rekeyd.domain.leaves import Copied, Leaf, VersionEvidence, crc64nvme_text
from rekeyd.domain.objects import OWN_PREFIX, ChecksumOrigin, Location, ObjectVersion, parse_time
from rekeyd.jobs.kept_objects import keep_object
from rekeyd.jobs.own_objects import Ground
from rekeyd.jobs.rekeyed_leaves import rekeyed_leaf_of
from rekeyd.jobs.run import JobRun
from rekeyd.ledger.port import Copy, EvidenceRow
from rekeyd.transfer.retire import LOCKED, locked_until

EVIDENCE_FILE_BYTES_MAX = 4 * 1024**2
"""A file of evidence is no longer, unless it has one line."""

ROWS_READ_MAX = 1000
"""So many rows are in memory at once."""

_CONTENT_TYPE = "application/jsonl"


@dataclass(slots=True)
class Kepts:
    """What the evidence says of sources that were not deleted."""

    count: int = 0
    shown: list[Kept] = field(default_factory=list)
    locked: int = 0
    locked_until: str | None = None

    def add(self, leaf: Leaf) -> None:
        """Count it, and show it where there is room."""
        if leaf.outcome == "deleted":
            return
        until = locked_until(leaf.reason)
        self.count += 1
        self.locked += leaf.reason.startswith(LOCKED)
        if until is not None and (
            self.locked_until is None or parse_time(self.locked_until) < parse_time(until)
        ):
            self.locked_until = until
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(Kept(key=leaf.key, outcome=leaf.outcome, reason=leaf.reason, until=until))


@dataclass(frozen=True, slots=True)
class WrittenEvidence:
    """All the evidence of a job stands in the target."""

    facts: EvidenceFacts
    sums: EvidenceSum
    kepts: Kepts


async def write_evidence(run: JobRun, ground: Ground, *, moved: bool = True) -> WrittenEvidence:
    """Write the evidence of the job's move. Memory doesn't grow with the number of objects.

    A job that has `moved` nothing has none: what the ledger knows of its move is another job's then.
    Raises StoreError where a file doesn't stand there in the end.
    """
    job = run.job
    sums, kepts = EvidenceSum(), Kepts()
    lines: list[bytes] = []
    size_bytes, files = 0, 0

    async def write_file() -> None:
        await keep_object(ground, evidence_key(job.id, files), b"".join(lines), _CONTENT_TYPE, run.kept)

    async for leaf in _leaves(run, moved=moved):
        data = leaf.data()
        sums.add(data, leaf)
        kepts.add(leaf)
        if lines and size_bytes + len(data) >= EVIDENCE_FILE_BYTES_MAX:
            await write_file()
            lines, size_bytes, files = [], 0, files + 1
        lines.append(data + b"\n")
        size_bytes += len(data) + 1
    if lines:
        await write_file()
        files += 1
    facts = EvidenceFacts(
        location=str(Location(job.target.store, job.target.bucket, evidence_prefix(job.id))),
        files=files,
        leaves=sums.tree.size,
        root=sums.tree.root().hex(),
    )
    return WrittenEvidence(facts, sums, kepts)


async def _leaves(run: JobRun, *, moved: bool) -> AsyncIterator[Leaf]:
    if not moved:
        return
    async for row in _rows(run):
        if not run.job.in_place:
            yield leaf_of(row, run.job.key.arn)
        elif row.object.state != "stale" and not row.object.source.key.startswith(OWN_PREFIX):
            # What a writer has deleted since is no data, and what is rekeyd's own is none of the tenant's.
            yield rekeyed_leaf_of(row)


async def _rows(run: JobRun) -> AsyncIterator[EvidenceRow]:
    after: str | None = None
    while True:
        rows = await run.tools.ledger.evidence_rows(run.claim, after, ROWS_READ_MAX)
        for row in rows:
            yield row
        if len(rows) < ROWS_READ_MAX:
            return
        after = rows[-1].object.source.key


def leaf_of(row: EvidenceRow, key_arn: str) -> Leaf:
    """What is known of an object; `key_arn` is the key under which copies without a history of their own lie."""
    about = row.object
    if about.copies:
        by_source = {(copy.source.version_id, copy.source.etag): copy for copy in about.copies}
        versions = tuple(
            _version(version, by_source.get((version.version_id, version.etag)))
            for version in about.source.chain
        )
        target_key: str | None = about.copies[-1].target.key
    else:
        only = None
        if about.target is not None:
            only = Copy(about.source, about.target, key_arn, about.crc64nvme, row.evidence)
        *older, newest = about.source.chain
        versions = (*(_version(version, None) for version in older), _version(newest, only))
        target_key = None if about.target is None else about.target.key
    return Leaf(
        key=about.source.key,
        target_key=target_key,
        outcome=about.state,
        reason=row.reason,
        delete_requests=row.request_ids,
        versions=versions,
        copy_requests=about.copy_requests,
    )


def _version(source: ObjectVersion, copy: Copy | None) -> VersionEvidence:
    # Verified means that both sides have the one checksum that is recorded (transfer.verify).
    origins = ("", "") if copy is None else _origins(copy.evidence)
    crc = None if copy is None else copy.crc64nvme
    return VersionEvidence(
        marker=source.marker,
        modified=source.modified,
        source=_copied(source, crc, origins[0]),
        target=None if copy is None else _copied(copy.target, crc, origins[1]),
        encryption_key=(copy.key_arn or None) if copy is not None and not source.marker else None,
    )


def _origins(evidence: str) -> tuple[str, str]:
    source, _, target = evidence.partition("/")
    return source, target


def _copied(version: ObjectVersion, crc: int | None, origin: str) -> Copied:
    known = origin if crc is not None else ""
    return Copied(
        version_id=version.version_id,
        etag=version.etag,
        size_bytes=version.size_bytes,
        crc64nvme=crc64nvme_text(crc) if known else None,
        checksum_origin=_ORIGINS.get(known),
    )


_ORIGINS: dict[str, ChecksumOrigin] = {
    "computed_by_provider": "computed_by_provider",
    "read": "read",
    "streamed": "streamed",
}
"""Those that count as evidence."""
