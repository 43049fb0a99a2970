"""The last look at a source: all versions, markers and unfinished uploads that it still holds. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rekeyd.domain.certificate import SHOWN_MAX, Found, Sum, UnfinishedUpload
from rekeyd.domain.job import utc_timestamp
from rekeyd.domain.objects import ObjectVersion
from rekeyd.jobs.run import JobRun
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, Upload


@dataclass(slots=True)
class Remaining:
    """What was found."""

    listed_at: str
    """When that ended, by the ledger's clock."""
    objects: int = 0
    versions: int = 0
    bytes: int = 0
    markers: int = 0
    unknown: int = 0
    shown: list[Found] = field(default_factory=list)
    uploads: Sequence[Upload] = ()

    @property
    def found(self) -> Sum:
        """All of it."""
        return Sum(objects=self.objects, versions=self.versions, bytes=self.bytes)

    @property
    def uploads_shown(self) -> tuple[UnfinishedUpload, ...]:
        """The first of the uploads."""
        return tuple(
            UnfinishedUpload(key=each.key, upload_id=each.upload_id) for each in self.uploads[:SHOWN_MAX]
        )


async def look_at_source(run: JobRun) -> Remaining:
    """List the job's source once more, from its beginning to its end."""
    source, objects = run.job.source, run.tools.source_of(run.job).objects
    remaining = Remaining("")
    after: str | None = None
    while True:
        too_long: Sequence[str] = ()
        if run.source_versioned:
            histories = await objects.list_versions_page(source.bucket, source.prefix, after=after)
            page, too_long, after = histories.histories, histories.too_long, histories.resume_after
        else:
            listing = await objects.list_page(source.bucket, source.prefix, after=after)
            page, after = listing.objects, listing.resume_after
        await _add_page(run, remaining, page, too_long)
        if after is None:
            break
    remaining.uploads = await objects.list_uploads(source.bucket, source.prefix)
    remaining.listed_at = utc_timestamp(await run.tools.ledger.now()) or ""
    return remaining


async def _add_page(
    run: JobRun, remaining: Remaining, page: Sequence[ObjectVersion], too_long: Sequence[str]
) -> None:
    # Of a history that is too long to be listed it's known that it has one version more than are.
    weights = [(each.key, len(each.chain), each.history_bytes) for each in page]
    weights += [(key, HISTORY_VERSIONS_MAX + 1, 0) for key in too_long]
    if not weights:
        return
    known = await run.tools.ledger.known_states(run.claim, [key for key, _, _ in weights])
    remaining.objects += len(weights)
    remaining.versions += sum(versions for _, versions, _ in weights)
    remaining.bytes += sum(size_bytes for _, _, size_bytes in weights)
    remaining.markers += sum(version.marker for each in page for version in each.chain)
    remaining.unknown += sum(key not in known for key, _, _ in weights)
    for key, versions, size_bytes in weights[: SHOWN_MAX - len(remaining.shown)]:
        remaining.shown.append(Found(key=key, versions=versions, bytes=size_bytes, known_as=known.get(key)))
