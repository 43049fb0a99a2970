"""What S3 says in headers: attributes, conditions, checksums, encryption. Pure, both ways.

Names and meanings are those of "PutObject", "HeadObject" and "CopyObject" (Amazon S3 API Reference).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never
from urllib.parse import quote, urlencode

from rekeyd.domain.errors import StoreRefusedError, UnavailableError
from rekeyd.domain.objects import (
    CARRIED_HEADERS,
    NULL_VERSION,
    Attributes,
    ByteSpan,
    Encryption,
    LockMode,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
)
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import Content, IfAbsent, IfMatches, UnderKey, WriteCondition
from rekeyd.stores.s3.xml import bare_etag

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
"""What S3 stores where none is sent. Always sent, since compatible stores guess from the bytes instead."""

CRC_HEADER = "x-amz-checksum-crc64nvme"

_BUCKET_KEY = "x-amz-server-side-encryption-bucket-key-enabled"
_CRC_BYTES = 8
_METADATA = "x-amz-meta-"
_LOCK = "x-amz-object-lock-"
_LOCK_MODES: Mapping[str, LockMode] = {"GOVERNANCE": "GOVERNANCE", "COMPLIANCE": "COMPLIANCE"}
_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MULTIPART_ETAG = re.compile(r"-\d+$")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def attribute_headers(operation: str, attributes: Attributes) -> dict[str, str]:
    """The headers with which an object gets these attributes. Raises StoreRefusedError for what none can hold."""
    headers = {"content-type": DEFAULT_CONTENT_TYPE}
    for name, value in attributes.headers.items():
        if name not in CARRIED_HEADERS:
            raise StoreRefusedError(operation, f"the header {name!r} isn't one that is carried")
        headers[name] = value
    for name, value in attributes.metadata.items():
        headers[_METADATA + name] = value
    for name, value in headers.items():
        if _CONTROL.search(value) or _CONTROL.search(name):
            raise StoreRefusedError(operation, f"the header {name!r} holds a control character")
    if attributes.tags:
        headers["x-amz-tagging"] = urlencode(attributes.tags, quote_via=quote, safe="~")
    if attributes.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = attributes.storage_class
    return {**headers, **lock_headers(attributes.lock)}


def lock_headers(lock: ObjectLock | None) -> dict[str, str]:
    """The headers with which an object is locked from its beginning."""
    headers: dict[str, str] = {}
    if lock is not None and lock.mode is not None and lock.retain_until is not None:
        headers[_LOCK + "mode"] = lock.mode
        headers[_LOCK + "retain-until-date"] = lock.retain_until
    if lock is not None and lock.legal_hold:
        headers[_LOCK + "legal-hold"] = "ON"
    return headers


def read_lock(operation: str, headers: Mapping[str, str]) -> ObjectLock | None:
    """What protects the object, as far as the answer says. Raises UnavailableError where that makes no sense.

    AWS tells it to whoever has s3:GetObjectRetention and s3:GetObjectLegalHold alone ("HeadObject").
    """
    said = headers.get(_LOCK + "mode")
    retain_until = headers.get(_LOCK + "retain-until-date")
    legal_hold = headers.get(_LOCK + "legal-hold", "OFF") == "ON"
    if said is None and retain_until is None and not legal_hold:
        return None
    if said is not None and said not in _LOCK_MODES:
        raise UnavailableError(operation, f"the answer has the lock mode {said!r}")
    try:
        return ObjectLock(None if said is None else _LOCK_MODES[said], retain_until, legal_hold)
    except ValueError as error:
        raise UnavailableError(operation, f"the answer's lock makes no sense: {error}") from error


def is_archived(headers: Mapping[str, str]) -> bool:
    """Whether the object must be restored before it can be read ("Restoring an archived object", S3 User Guide)."""
    storage_class = headers.get("x-amz-storage-class", "STANDARD")
    if storage_class == "INTELLIGENT_TIERING":
        if "x-amz-archive-status" not in headers:
            return False
    elif storage_class not in _ARCHIVES:
        return False
    return 'ongoing-request="false"' not in headers.get("x-amz-restore", "")


def read_attributes(operation: str, headers: Mapping[str, str]) -> Attributes:
    """The attributes that an answer tells; tags are none of them."""
    metadata = {}
    carried = {}
    for raw_name, value in headers.items():
        name = raw_name.lower()
        if name.startswith(_METADATA):
            metadata[name[len(_METADATA) :]] = value
        elif name in CARRIED_HEADERS:
            carried[name] = value
    lock = read_lock(operation, headers)
    return Attributes(carried, metadata, {}, headers.get("x-amz-storage-class", "STANDARD"), lock)


def condition_headers(condition: WriteCondition) -> dict[str, str]:
    """The header that makes a write conditional ("Conditional writes", Amazon S3 User Guide)."""
    match condition:
        case IfAbsent():
            return {"if-none-match": "*"}
        case IfMatches(etag):
            return {"if-match": f'"{etag}"'}
        case never:
            assert_never(never)


def encryption_headers(under: UnderKey | None) -> dict[str, str]:
    """The headers that name the key, without a Bucket Key whatever the bucket's default is. Sent where one is meant.

    SeaweedFS copies into a bucket with a default key without encrypting unless the copy names the key.
    """
    if under is None:
        return {}
    return {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": under.key_arn,
        _BUCKET_KEY: "false",
    }


def directive_headers(
    operation: str, attributes: Attributes | None, lock: ObjectLock | None
) -> dict[str, str]:
    """The headers by which a copy has its source's attributes, or these in their place, and a lock.

    The storage class isn't among them.
    """
    directive = "COPY" if attributes is None else "REPLACE"
    directives = {"x-amz-metadata-directive": directive, "x-amz-tagging-directive": directive}
    if attributes is None:
        return {**directives, **lock_headers(lock)}
    given = replace(attributes, storage_class="STANDARD", lock=lock or attributes.lock)
    return {**directives, **attribute_headers(operation, given)}


def put_checksum_headers(
    operation: str, content: Content, crc64nvme: int | None, *, locked: bool
) -> dict[str, str]:
    """The headers by which a PUT's content is checked. A lock demands one ("PutObject", Amazon S3 API Reference).

    No trailer: SeaweedFS would keep the encoding that a trailer needs as the object's own.
    """
    if crc64nvme is not None:
        algorithm = {"x-amz-sdk-checksum-algorithm": "CRC64NVME"} if locked else {}
        return {CRC_HEADER: encode_crc(crc64nvme), **algorithm}
    if not locked:
        return {}
    if not isinstance(content, BytesContent):
        raise StoreRefusedError(operation, "what is to be locked must have a checksum")
    return {"content-md5": content_md5(content.data)}


def content_md5(data: bytes) -> str:
    """The Content-MD5 of a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def copy_source_headers(bucket: str, source: ObjectVersion, account_id: str) -> dict[str, str]:
    """The headers that pin the source of a copy to one version."""
    path = f"{bucket}/{quote(source.key, safe='/~', errors='surrogatepass')}"
    if source.version_id is not None:
        path += f"?versionId={quote(source.version_id, safe='~')}"
    headers = {
        "x-amz-copy-source": path,
        "x-amz-copy-source-if-match": f'"{source.etag}"',
    }
    if account_id:
        headers["x-amz-source-expected-bucket-owner"] = account_id
    return headers


def range_header(span: ByteSpan) -> str:
    """The value of a Range: both ends are included, so that an empty span has none."""
    if not 0 <= span.first < span.end:
        raise ValueError(f"{span} is empty")
    return f"bytes={span.first}-{span.end - 1}"


def encode_crc(crc64nvme: int) -> str:
    """A CRC64NVME as S3 writes it: base64 of eight bytes, the highest first."""
    return base64.b64encode(crc64nvme.to_bytes(8, "big")).decode()


def decode_crc(text: str) -> int | None:
    """The CRC64NVME that a header or element holds; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == _CRC_BYTES else None


def full_object_crc(headers: Mapping[str, str]) -> int | None:
    """The CRC64NVME of the full object, where the answer holds one.

    SeaweedFS names no type for an object written with one request. Then the ETag must not be a multipart
    upload's, whose checksum could be one of checksums.
    """
    kind = headers.get("x-amz-checksum-type", "")
    if kind != "FULL_OBJECT" and (kind or _MULTIPART_ETAG.search(bare_etag(headers.get("etag", "")))):
        return None
    return decode_crc(headers.get(CRC_HEADER, ""))


def read_encryption(headers: Mapping[str, str]) -> Encryption:
    """How the object lies there, as far as the answer says."""
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return Encryption("SSE-C")
    return Encryption(
        headers.get("x-amz-server-side-encryption", ""),
        headers.get("x-amz-server-side-encryption-aws-kms-key-id", ""),
        bucket_key=headers.get(_BUCKET_KEY, "").lower() == "true",
    )


def version_id(headers: Mapping[str, str]) -> str | None:
    """The version id of an answer. `null` is no pin, and none was asked for: it's left out."""
    said = headers.get("x-amz-version-id", "")
    return None if said in (NULL_VERSION, "") else said


def read_head(
    operation: str,
    key: str,
    asked_id: str | None,
    headers: Mapping[str, str],
    size_bytes: int,
    *,
    whole: bool,
    counts_tags: bool,
) -> ObjectHead:
    """An object's head from the headers of HEAD or GET. Raises UnavailableError where they make no sense."""
    etag = bare_etag(headers.get("etag", ""))
    if not etag:
        raise UnavailableError(operation, "the answer has no ETag")
    attributes = read_attributes(operation, headers)
    tag_count = headers.get("x-amz-tagging-count", "0" if counts_tags else "")
    return ObjectHead(
        version=ObjectVersion(key, size_bytes, etag, version_id(headers) or asked_id),
        attributes=attributes,
        tag_count=int(tag_count) if tag_count.isdecimal() else None,
        encryption=read_encryption(headers),
        crc64nvme=full_object_crc(headers) if whole else None,
        archived=is_archived(headers),
    )


def content_length(operation: str, headers: Mapping[str, str]) -> int:
    """The length that an answer announces. Raises UnavailableError where it announces none."""
    said = headers.get("content-length", "")
    if not said.isdecimal():
        raise UnavailableError(operation, f"the answer has the Content-Length {said!r}")
    return int(said)


def answered_span(operation: str, headers: Mapping[str, str]) -> tuple[ByteSpan, int | None]:
    """The span that a 206 holds, and the size of the whole. Raises UnavailableError where it says neither."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        raise UnavailableError(operation, "the answer's Content-Range makes no sense")
    total = None if found[3] == "*" else int(found[3])
    return ByteSpan(int(found[1]), int(found[2]) + 1), total
