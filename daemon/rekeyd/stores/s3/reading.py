"""Reading exactly one object version, the whole of it or a span."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from rekeyd.domain.errors import (
    CustomerKeyError,
    InterruptedTransferError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import ByteSpan, ObjectHead, ObjectVersion
from rekeyd.stores.port import ObjectStream
from rekeyd.stores.s3 import headers as s3
from rekeyd.stores.s3.client import S3Client
from rekeyd.stores.s3.request import S3Request
from rekeyd.stores.s3.response import exact_chunks

_OPERATION = "GetObject"


@dataclass(frozen=True, slots=True)
class _S3Stream:
    """The body of a GET."""

    head: ObjectHead
    _response: aiohttp.ClientResponse
    _size_bytes: int

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive, counted."""
        return exact_chunks(self._response, _OPERATION, self._size_bytes)


@asynccontextmanager
async def open_read(
    client: S3Client, bucket: str, version: ObjectVersion, span: ByteSpan | None
) -> AsyncGenerator[ObjectStream]:
    """Read one version: pinned by its ETag, and by its id where there is one, `null` included."""
    request = S3Request(
        _OPERATION,
        "GET",
        bucket,
        version.key,
        query=version_query(version.version_id),
        headers={"if-match": f'"{version.etag}"', **_wanted(span)},
    )
    async with client.exchange(request, streams=True) as response:
        head = _checked_head(response, version, span, counts_tags=client.config.counts_tags)
        size_bytes = version.size_bytes if span is None else span.size_bytes
        yield _S3Stream(head, response, size_bytes)


async def read_head(client: S3Client, bucket: str, key: str, version_id: str | None) -> ObjectHead:
    """What the store says of an object. The answer to HEAD has no body: why it's refused, a GET tells."""
    request = S3Request(
        "HeadObject",
        "HEAD",
        bucket,
        key,
        query=version_query(version_id),
        headers={"x-amz-checksum-mode": "ENABLED"},
    )
    try:
        headers = (await client.call(request)).headers
    except StoreRefusedError as error:
        if isinstance(error, CustomerKeyError) or error.code:
            raise
        # An object under SSE-C, an id that is none, credentials that have expired: AWS says 400 to all of them.
        explained = await _why_refused(client, bucket, key, version_id)
        if explained is None:
            raise
        raise explained from error
    size_bytes = s3.content_length(request.operation, headers)
    return s3.read_head(
        request.operation,
        key,
        version_id,
        headers,
        size_bytes,
        whole=True,
        counts_tags=client.config.counts_tags,
    )


async def _why_refused(client: S3Client, bucket: str, key: str, version_id: str | None) -> StoreError | None:
    """What a GET is refused with, where that says more."""
    request = S3Request(_OPERATION, "GET", bucket, key, query=version_query(version_id))
    try:
        async with client.exchange(request, streams=True):
            return None
    except StoreError as error:
        return error if error.code else None


def version_query(version_id: str | None) -> tuple[tuple[str, str], ...]:
    """The query that names a version."""
    return () if version_id is None else (("versionId", version_id),)


def _wanted(span: ByteSpan | None) -> dict[str, str]:
    # A checksum is of the whole object: none comes with a span.
    if span is None:
        return {"x-amz-checksum-mode": "ENABLED"}
    return {"range": s3.range_header(span)}


def _checked_head(
    response: aiohttp.ClientResponse, version: ObjectVersion, span: ByteSpan | None, *, counts_tags: bool
) -> ObjectHead:
    headers = response.headers
    announced = s3.content_length(_OPERATION, headers)
    if span is None:
        if response.status != HTTPStatus.OK:
            raise UnavailableError(_OPERATION, f"status {response.status} where 200 is due")
        wanted = version.size_bytes
        total = announced
    else:
        total = _checked_span(response, span) or version.size_bytes
        wanted = span.size_bytes
    head = s3.read_head(
        _OPERATION,
        version.key,
        version.version_id,
        headers,
        total,
        whole=span is None,
        counts_tags=counts_tags,
    )
    if head.version.etag != version.etag:
        raise PreconditionError(_OPERATION, "another version was answered than the one asked for")
    if head.version.version_id != version.version_id and version.version_id is not None:
        raise PreconditionError(_OPERATION, "another version id was answered than the one asked for")
    if announced != wanted:
        raise InterruptedTransferError(_OPERATION, f"{announced} bytes announced, {wanted} are due")
    return head


def _checked_span(response: aiohttp.ClientResponse, span: ByteSpan) -> int | None:
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise UnavailableError(_OPERATION, f"status {response.status} where 206 is due")
    answered, total = s3.answered_span(_OPERATION, response.headers)
    if answered != span:
        raise InterruptedTransferError(_OPERATION, f"{answered} was answered where {span} is due")
    return total
