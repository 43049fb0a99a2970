"""Deleting exactly the versions that are named, and learning what became of each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from rekeyd.domain.errors import NotFoundError, PreconditionError, StoreError, UnavailableError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import DeleteOutcome, LiveClaim
from rekeyd.stores.s3.client import S3Client, S3Request
from rekeyd.stores.s3.errors import embedded_refusal, translate
from rekeyd.stores.s3.reading import version_query
from rekeyd.stores.s3.xml import Element, bare_etag, delete_body, fits_xml

_MANY = "DeleteObjects"
_ONE = "DeleteObject"


async def delete_versions(
    client: S3Client, bucket: str, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> list[DeleteOutcome]:
    """Delete versions, those that a batch can name exactly in one request, the others one by one.

    A key that XML can't hold, and any unversioned one where the store ignores an ETag in a batch, goes
    alone. An error that stops everything (no answer, a claim lost) is raised; what is true of one version only
    is its outcome.
    """
    heeded = client.config.batch_delete_conditions
    batch = [
        version
        for version in versions
        if fits_xml(version.key) and (heeded or version.version_id is not None)
    ]
    if len({version.key for version in batch}) != len(batch) or len(batch) == 1:
        # Of two versions under one key the answer doesn't always say which it means.
        batch = []
    outcomes: dict[ObjectVersion, DeleteOutcome] = {}
    if batch:
        outcomes = await _delete_many(client, bucket, batch, claim)
    for version in versions:
        if version not in outcomes:
            outcomes[version] = await _delete_one(client, bucket, version, claim)
    return [outcomes[version] for version in versions]


async def _delete_many(
    client: S3Client, bucket: str, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> dict[ObjectVersion, DeleteOutcome]:
    body = delete_body(versions)
    # "Content-MD5 ... is required for all Multi-Object Delete requests", or a checksum header in its place
    # ("DeleteObjects", Amazon S3 API Reference).
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    request = S3Request(
        _MANY,
        "POST",
        bucket,
        query=(("delete", ""),),
        headers={"content-md5": base64.b64encode(digest).decode(), "content-type": "application/xml"},
        content=BytesContent(body),
        claim=claim,
        publishes=True,
    )
    root, answer = await client.call_for_xml(request, "DeleteResult")
    named = {version.key: version for version in versions}
    outcomes = {}
    for element in root.children:
        version = named.get(element.get("Key"))
        if version is not None and element.name in ("Deleted", "Error"):
            outcomes[version] = _outcome(version, element)
    if len(outcomes) != len(versions):
        raise UnavailableError(
            _MANY, "the answer doesn't speak of every object", request_id=answer.request_id
        )
    return outcomes


def _outcome(version: ObjectVersion, element: Element) -> DeleteOutcome:
    if element.name == "Deleted":
        return DeleteOutcome(version, "deleted")
    error = translate(_MANY, embedded_refusal(element, {}))
    match error:
        case NotFoundError() if error.code != "NoSuchBucket":
            return DeleteOutcome(version, "deleted")
        case PreconditionError():
            return DeleteOutcome(version, "changed", error.code)
        case _:
            return DeleteOutcome(version, "failed", str(error))


async def _delete_one(
    client: S3Client, bucket: str, version: ObjectVersion, claim: LiveClaim
) -> DeleteOutcome:
    pinned = {} if version.version_id is not None else {"if-match": f'"{version.etag}"'}
    request = S3Request(
        _ONE,
        "DELETE",
        bucket,
        version.key,
        query=version_query(version.version_id),
        headers=pinned,
        claim=claim,
        publishes=True,
    )
    try:
        await client.call(request)
    except NotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
        return DeleteOutcome(version, "deleted")
    except PreconditionError as error:
        # SeaweedFS says so of a key that is absent, too.
        return await _settle(client, bucket, version, error)
    except StoreError as error:
        if error.repeatable:
            raise
        return DeleteOutcome(version, "failed", str(error))
    return DeleteOutcome(version, "deleted")


async def _settle(
    client: S3Client, bucket: str, version: ObjectVersion, error: PreconditionError
) -> DeleteOutcome:
    try:
        answer = await client.call(S3Request("HeadObject", "HEAD", bucket, version.key))
    except NotFoundError:
        return DeleteOutcome(version, "deleted")
    if bare_etag(answer.headers.get("etag", "")) == version.etag:
        return DeleteOutcome(version, "failed", "it stands unchanged, yet the store denies it")
    return DeleteOutcome(version, "changed", error.code)
