"""S3's errors in rekeyd's words, translated once.

Codes are those of "Error responses" (Amazon S3 API Reference); what S3 passes on from the key service begins
with `KMS.` (AWS re:Post and "Troubleshooting SSE-KMS": `KMS.DisabledException`, `KMS.NotFoundException`,
`KMS.KMSInvalidStateException`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from rekeyd.domain.errors import (
    AccessDeniedError,
    ArchivedError,
    CustomerKeyError,
    InterruptedTransferError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreRefusedError,
    ThrottledError,
    UnavailableError,
)
from rekeyd.stores.s3.xml import Element, MalformedAnswer, parse

_DETAIL_CHARACTERS_MAX = 300

_THROTTLED_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMS.ThrottlingException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_THROTTLED_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_KIND_OF_CODE: dict[str, type[StoreError]] = {
    "BadDigest": InterruptedTransferError,
    "IncompleteBody": InterruptedTransferError,
    "InvalidObjectState": ArchivedError,
    "ObjectNotInActiveTierError": ArchivedError,
    "XAmzContentChecksumMismatch": InterruptedTransferError,
}
# 4xx by status, yet the same call may well succeed when it is made again.
_PASSING_CODES = frozenset({"OperationAborted", "RequestTimeout"})
# A 200 may hold an error; then its code is all there is to go by.
_STATUS_OF_CODE = {
    "AccessDenied": 403,
    "ConditionalRequestConflict": 409,
    "InvalidObjectState": 403,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "ObjectNotInActiveTierError": 403,
    "PreconditionFailed": 412,
    "SlowDown": 503,
}

# What AWS and SeaweedFS say of an object under SSE-C to whoever comes without its key, with a code that says less.
_CUSTOMER_KEY_DETAILS = ("stored using a form of Server Side Encryption", "must provide the customer key")
_CUSTOMER_KEY_HEADER = "x-amz-server-side-encryption-customer-algorithm"

_OWN_HEADERS = ("x-amz-request-id", "x-amzn-requestid")
"""A proxy between here and the store has none of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that isn't success: what its status, headers and body say."""

    status: int
    code: str
    detail: str
    request_id: str
    condition: str
    """The name of the header whose condition didn't hold, where the body says it."""
    region: str
    """The region that the bucket is in, or that a signature must name, where the answer says it."""
    retry_after_seconds: float | None
    spoken: bool
    """Whether S3 itself speaks: a proxy's 404 says nothing about an object."""
    marker: bool = False
    """Whether a delete marker was named where a version is due."""
    customer_key: bool = False
    """Whether the object is encrypted with a key that must come with the request."""


def read_refusal(method: str, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Read an answer that isn't success. What can't be read stays empty."""
    try:
        root = parse(body)
    except MalformedAnswer:
        root = Element("")
    named = root if root.name == "Error" else Element("")
    detail = named.get("Message")
    return Refusal(
        status=status,
        code=named.get("Code"),
        detail=detail[:_DETAIL_CHARACTERS_MAX] or f"HTTP {status}",
        request_id=headers.get("x-amz-request-id", "") or named.get("RequestId"),
        condition=named.get("Condition").lower(),
        region=headers.get("x-amz-bucket-region", "") or named.get("Region"),
        retry_after_seconds=_seconds(headers.get("retry-after", "")),
        # The answer to HEAD has no body: there the store is known by its headers.
        spoken=named is root or (method == "HEAD" and any(name in headers for name in _OWN_HEADERS)),
        marker=status == HTTPStatus.METHOD_NOT_ALLOWED and headers.get("x-amz-delete-marker") == "true",
        customer_key=status == HTTPStatus.BAD_REQUEST
        and (_CUSTOMER_KEY_HEADER in headers or any(words in detail for words in _CUSTOMER_KEY_DETAILS)),
    )


def embedded_refusal(root: Element, headers: Mapping[str, str]) -> Refusal:
    """Read the error inside a 200. An unknown code counts as a failure of the store."""
    code = root.get("Code")
    return Refusal(
        status=_STATUS_OF_CODE.get(code, 500),
        code=code,
        detail=root.get("Message")[:_DETAIL_CHARACTERS_MAX] or "an error inside a 200",
        request_id=headers.get("x-amz-request-id", "") or root.get("RequestId"),
        condition=root.get("Condition").lower(),
        region="",
        retry_after_seconds=None,
        spoken=True,
    )


def translate(operation: str, refusal: Refusal) -> StoreError:
    """The error that a refusal is."""
    kind = _kind(refusal)
    error = kind(operation, refusal.detail, code=refusal.code, request_id=refusal.request_id)
    error.retry_after_seconds = refusal.retry_after_seconds
    if isinstance(error, PreconditionError):
        error.side = _side(refusal.condition)
    return error


def _kind(refusal: Refusal) -> type[StoreError]:
    code, status = refusal.code, refusal.status
    if code in _THROTTLED_CODES or status in _THROTTLED_STATUSES:
        return ThrottledError
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return StoreRefusedError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _PASSING_CODES:
        return UnavailableError
    if code in _KIND_OF_CODE:
        return _KIND_OF_CODE[code]
    if code.startswith("KMS.") or (code == "AccessDenied" and "kms:" in refusal.detail):
        return KeyUnusableError
    if status == HTTPStatus.PRECONDITION_FAILED or (
        status == HTTPStatus.CONFLICT and code == "ConditionalRequestConflict"
    ):
        return PreconditionError
    if refusal.marker or (status == HTTPStatus.NOT_FOUND and refusal.spoken):
        return NotFoundError
    if status == HTTPStatus.FORBIDDEN:
        return AccessDeniedError
    return CustomerKeyError if refusal.customer_key else StoreRefusedError


def _side(condition: str) -> Literal["source", "target", "unknown"]:
    if condition.startswith("x-amz-copy-source-"):
        return "source"
    return "target" if condition in ("if-match", "if-none-match") else "unknown"


def _seconds(text: str) -> float | None:
    # A date is allowed by HTTP, but S3 doesn't send one.
    return float(text) if text.isdecimal() else None
