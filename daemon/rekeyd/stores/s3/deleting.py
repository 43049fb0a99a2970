"""Deleting exactly the versions that are named, and learning what became of each; hiding the current one."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import (
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.domain.objects import NULL_VERSION, ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import OLDER_LEFT, DeleteOutcome, IfMatches, LiveClaim, Written
from rekeyd.stores.s3 import headers as s3
from rekeyd.stores.s3.client import S3Client
from rekeyd.stores.s3.errors import embedded_refusal, translate
from rekeyd.stores.s3.listing import find_version
from rekeyd.stores.s3.reading import version_query
from rekeyd.stores.s3.request import S3Request
from rekeyd.stores.s3.xml import Element, bare_etag, delete_body, fits_xml

_MANY = "DeleteObjects"
_ONE = "DeleteObject"
_MARKER = "x-amz-delete-marker"
_ONLY_HIDDEN = "it was only hidden: the bucket keeps versions"


async def delete_versions(
    client: S3Client, bucket: str, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> list[DeleteOutcome]:
    """Delete versions, of each key one at a time, in the order given; none after one that wasn't deleted.

    An error that stops everything (no answer, a claim lost) is raised; what is true of one version only is its
    outcome.
    """
    left: dict[str, list[int]] = {}
    for number, version in enumerate(versions):
        left.setdefault(version.key, []).append(number)
    outcomes: dict[int, DeleteOutcome] = {}
    while left:
        turn = [numbers.pop(0) for numbers in left.values()]
        ended = await _delete_turn(client, bucket, [versions[number] for number in turn], claim)
        for number, outcome in zip(turn, ended, strict=True):
            outcomes[number] = outcome
            if outcome.result != "deleted":
                newer = left.pop(outcome.version.key)
                outcomes |= {each: DeleteOutcome(versions[each], "failed", OLDER_LEFT) for each in newer}
        left = {key: numbers for key, numbers in left.items() if numbers}
    return [outcomes[number] for number in range(len(versions))]


async def _delete_turn(
    client: S3Client, bucket: str, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> list[DeleteOutcome]:
    """Delete at most one version of each key: what a batch can name exactly in one request, the others one by one.

    A key that XML can't hold, a `null` id, and any unversioned one where the store ignores an ETag in a batch, goes
    alone.
    """
    heeded = client.config.batch_delete_conditions
    batch = [
        version
        for version in versions
        if fits_xml(version.key)
        and version.version_id != NULL_VERSION
        and (heeded or version.version_id is not None)
    ]
    outcomes: dict[str, DeleteOutcome] = {}
    if len(batch) > 1:
        outcomes = await _delete_many(client, bucket, batch, claim)
    for version in versions:
        if version.key in outcomes:
            continue
        if version.version_id == NULL_VERSION:
            outcomes[version.key] = await _delete_null(client, bucket, version, claim)
        else:
            outcomes[version.key] = await _delete_one(client, bucket, version, claim)
    return [outcomes[version.key] for version in versions]


async def _delete_many(
    client: S3Client, bucket: str, versions: Sequence[ObjectVersion], claim: LiveClaim
) -> dict[str, DeleteOutcome]:
    body = delete_body(versions)
    # "Content-MD5 ... is required for all Multi-Object Delete requests", or a checksum header in its place
    # ("DeleteObjects", Amazon S3 API Reference).
    request = S3Request(
        _MANY,
        "POST",
        bucket,
        query=(("delete", ""),),
        headers={"content-md5": s3.content_md5(body), "content-type": "application/xml"},
        content=BytesContent(body),
        claim=claim,
        publishes=True,
    )
    root, answer = await client.call_for_xml(request, "DeleteResult")
    named = {version.key: version for version in versions}
    outcomes: dict[str, DeleteOutcome] = {}
    contradictory = False
    for element in root.children:
        version = named.get(element.get("Key"))
        if version is not None and element.name in ("Deleted", "Error"):
            contradictory = contradictory or version.key in outcomes or not _is_meant(version, element)
            outcomes[version.key] = _outcome(version, element, answer.request_id)
    if len(outcomes) != len(versions) or contradictory:
        raise UnavailableError(
            _MANY, "the answer doesn't speak of every object once", request_id=answer.request_id
        )
    return outcomes


def _is_meant(version: ObjectVersion, element: Element) -> bool:
    # SeaweedFS names a marker that it deletes as if it had just been made (measured on 4.48).
    said = element.get("VersionId") or (element.get("DeleteMarkerVersionId") if version.marker else "")
    # moto's errors name no version. A key is in a batch but once.
    return version.version_id in (None, said) or (element.name == "Error" and not said)


def _outcome(version: ObjectVersion, element: Element, request_id: str) -> DeleteOutcome:
    if element.name == "Deleted":
        if version.version_id is None and element.get("DeleteMarker") == "true":
            return DeleteOutcome(version, "failed", _ONLY_HIDDEN, request_id)
        return DeleteOutcome(version, "deleted", request_id=request_id)
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
        answer = await client.call(request)
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
    if version.version_id is None and answer.headers.get(_MARKER) == "true":
        return DeleteOutcome(version, "failed", _ONLY_HIDDEN, answer.request_id)
    return DeleteOutcome(version, "deleted", request_id=answer.request_id)


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


async def _delete_null(
    client: S3Client, bucket: str, version: ObjectVersion, claim: LiveClaim
) -> DeleteOutcome:
    """Delete what has the id `null`, if it's this. A condition is of no use: it would be on the current version.

    ("How to perform conditional deletes", Amazon S3 User Guide.)
    """
    if version.marker:
        return await _delete_null_marker(client, bucket, version, claim)
    request = S3Request("HeadObject", "HEAD", bucket, version.key, query=version_query(NULL_VERSION))
    try:
        answer = await client.call(request)
    except NotFoundError:
        return DeleteOutcome(version, "deleted")
    if bare_etag(answer.headers.get("etag", "")) != version.etag:
        return DeleteOutcome(version, "changed", "another version has the id null")
    return await _delete_one(client, bucket, version, claim)


async def _delete_null_marker(
    client: S3Client, bucket: str, version: ObjectVersion, claim: LiveClaim
) -> DeleteOutcome:
    """The same for a marker, of which only a listing tells. SeaweedFS says that it deleted it, and doesn't."""
    found = await find_version(client, bucket, version)
    if found is None:
        return DeleteOutcome(version, "deleted")
    if not found.marker:
        return DeleteOutcome(version, "changed", "another version has the id null")
    outcome = await _delete_one(client, bucket, version, claim)
    if outcome.result == "deleted" and await find_version(client, bucket, version) is not None:
        return DeleteOutcome(version, "failed", "the store said that it's deleted, yet it's still there")
    return outcome


async def hide_current(
    client: S3Client, bucket: str, key: str, condition: IfMatches, claim: LiveClaim
) -> Written:
    """Write a marker over exactly the current version. See ObjectStore.hide."""
    request = S3Request(
        _ONE, "DELETE", bucket, key, headers=s3.condition_headers(condition), claim=claim, publishes=True
    )
    try:
        answer = await client.call(request)
    except NotFoundError as error:
        if error.code == "NoSuchBucket":
            raise
        absent = PreconditionError(_ONE, f"nothing to hide: {error}", code=error.code)
        absent.side = "target"
        raise absent from error
    marker_id = s3.version_id(answer.headers)
    if answer.headers.get(_MARKER) != "true" or marker_id is None:
        refused = StoreRefusedError(_ONE, "no marker with an id came of it: versioning isn't enabled")
        refused.outcome_unknown = True
        raise refused
    return Written("", marker_id, None, s3.read_encryption({}), answer.request_id)
