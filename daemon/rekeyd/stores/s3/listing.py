"""Listing histories: the requests, and which way the store's pages are put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from rekeyd.domain.errors import NotFoundError, UnavailableError
from rekeyd.domain.objects import NULL_VERSION, ObjectVersion
from rekeyd.stores.port import LIST_OBJECTS_MAX, VersionsPage
from rekeyd.stores.s3.answers import reading
from rekeyd.stores.s3.client import S3Client
from rekeyd.stores.s3.histories import Cursor, ordered_page
from rekeyd.stores.s3.reading import read_head
from rekeyd.stores.s3.request import S3Request
from rekeyd.stores.s3.version_pages import OPERATION, VersionsAnswered, VersionsAsked, parse_versions
from rekeyd.stores.s3.walking import WalkedListing
from rekeyd.stores.s3.xml import MalformedAnswer

_HEADS_MAX = 16


async def list_versions(
    client: S3Client, bucket: str, prefix: str, after: str | None, limit: int
) -> VersionsPage:
    """See ObjectStore.list_versions_page."""
    cursor = Cursor.parse(after)

    async def ask(asked: VersionsAsked) -> VersionsAnswered:
        request = S3Request(OPERATION, "GET", bucket, query=asked.query)
        answer = await client.call(request)
        with reading(request, answer):
            return parse_versions(answer.body, asked)

    try:
        if client.config.keeps_every_key:
            return await ordered_page(ask, prefix, cursor, limit)
        page = await WalkedListing(ask).page(prefix, cursor, limit)
    except MalformedAnswer as malformed:
        raise UnavailableError(OPERATION, f"its pages: {malformed}") from malformed
    return replace(page, histories=await _as_headed(client, bucket, page.histories))


async def _as_headed(
    client: S3Client, bucket: str, histories: Sequence[ObjectVersion]
) -> tuple[ObjectVersion, ...]:
    """The histories with the ETags of HEAD for what has the id `null`, some at a time.

    SeaweedFS lists another one for what is encrypted (measured on 4.48): no read would ever find that version.
    """
    places = asyncio.Semaphore(_HEADS_MAX)

    async def headed(version: ObjectVersion) -> ObjectVersion:
        if version.version_id != NULL_VERSION or version.marker:
            return version
        async with places:
            try:
                found = await read_head(client, bucket, version.key, NULL_VERSION)
            except NotFoundError:
                return version  # gone since: whoever carries it finds that out
            return replace(version, etag=found.version.etag)

    async def all_headed(history: ObjectVersion) -> ObjectVersion:
        older = [await headed(version) for version in history.older]
        return replace(await headed(history), older=tuple(older))

    if not any(version.version_id == NULL_VERSION for each in histories for version in each.chain):
        return tuple(histories)
    found = await asyncio.gather(*map(all_headed, histories), return_exceptions=True)
    failed = [each for each in found if isinstance(each, BaseException)]
    if failed:
        raise failed[0]
    return tuple(each for each in found if isinstance(each, ObjectVersion))


async def find_version(client: S3Client, bucket: str, wanted: ObjectVersion) -> ObjectVersion | None:
    """The version or marker that now has an id, as a listing shows it."""
    page = await list_versions(client, bucket, wanted.key, None, LIST_OBJECTS_MAX)
    chains = [history.chain for history in page.histories if history.key == wanted.key]
    return next((one for chain in chains for one in chain if one.version_id == wanted.version_id), None)
