"""What of a tenant's data can be read although its keys are withdrawn: said, never passed over."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import StoreError
from rekeyd.domain.objects import Location
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import TenantMove
from rekeyd.stores.port import ObjectStore


async def readable_elsewhere(tools: Tools, moves: Sequence[TenantMove]) -> list[str]:
    """The sources that still hold something of the tenant's, under the vendor's key; looked at just now."""
    sources = dict.fromkeys(move.source for move in moves if move.source != move.target)
    found = [await _left_in(tools, source) for source in sources]
    return [each for each in found if each]


async def _left_in(tools: Tools, source: Location) -> str:
    store = tools.store_of(source)
    try:
        bucket = await store.buckets.describe(source.bucket)
        if bucket is None:
            return ""
        count, more = await _first_page(store.objects, source, versioned=bucket.versioning != "off")
        uploads = len(await store.objects.list_uploads(source.bucket, source.prefix))
    except StoreError as error:
        return f"{source}: nobody knows, it can't be listed: {error}"
    if not count and not uploads:
        return ""
    return f"{source}: {count}{more} versions of objects and {uploads} unfinished uploads, under the vendor's key"


async def _first_page(objects: ObjectStore, source: Location, *, versioned: bool) -> tuple[int, str]:
    if not versioned:
        page = await objects.list_page(source.bucket, source.prefix)
        return len(page.objects), " or more" if page.resume_after is not None else ""
    histories = await objects.list_versions_page(source.bucket, source.prefix)
    count = sum(len(each.chain) for each in histories.histories)
    return count, " or more" if histories.resume_after is not None else ""
