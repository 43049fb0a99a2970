"""Listing histories: the requests, and which way the store's pages are put together."""

from __future__ import annotations

from rekeyd.domain.errors import UnavailableError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import LIST_OBJECTS_MAX, VersionsPage
from rekeyd.stores.s3.answers import reading
from rekeyd.stores.s3.client import S3Client
from rekeyd.stores.s3.histories import Cursor, ordered_page
from rekeyd.stores.s3.request import S3Request
from rekeyd.stores.s3.version_pages import OPERATION, VersionsAnswered, VersionsAsked, parse_versions
from rekeyd.stores.s3.walking import WalkedListing
from rekeyd.stores.s3.xml import MalformedAnswer


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
        return await WalkedListing(ask).page(prefix, cursor, limit)
    except MalformedAnswer as malformed:
        raise UnavailableError(OPERATION, f"its pages: {malformed}") from malformed


async def find_version(client: S3Client, bucket: str, wanted: ObjectVersion) -> ObjectVersion | None:
    """The version or marker that now has an id, as a listing shows it."""
    page = await list_versions(client, bucket, wanted.key, None, LIST_OBJECTS_MAX)
    chains = [history.chain for history in page.histories if history.key == wanted.key]
    return next((one for chain in chains for one in chain if one.version_id == wanted.version_id), None)
