"""AWS Signature Version 4 for S3, in the Authorization header. Pure functions of what they are given.

Written after "Create a signed AWS API request" (IAM User Guide) and "Authenticating Requests: Using the
Authorization Header" (Amazon S3 API Reference): S3 takes the path as it stands, neither normalised nor
encoded a second time.

The payload is never hashed: every body travels as UNSIGNED-PAYLOAD, under verified TLS or on loopback, and
carries a checksum of its own where it matters.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_ALGORITHM = "AWS4-HMAC-SHA256"
# Set or rewritten on the way by clients, proxies and load balancers: signing them proves nothing.
_UNSIGNED_HEADERS = frozenset({"connection", "expect", "transfer-encoding", "user-agent"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs. Neither secret shows in a repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SigningScope:
    """For when, where and what a signature holds."""

    stamp: str
    """`YYYYMMDDTHHMMSSZ`."""
    region: str
    service: str = "s3"

    @classmethod
    def at(cls, epoch_seconds: float, region: str) -> SigningScope:
        """The scope of a signature made at a time."""
        return cls(_stamp(int(epoch_seconds)), region)

    def __str__(self) -> str:
        """The credential scope as it stands in the header."""
        return f"{self.stamp[:8]}/{self.region}/{self.service}/aws4_request"


def encode_path(*segments: str) -> str:
    """An absolute path of bucket and key: each byte of their UTF-8 as it is, or percent-encoded.

    Raises UnicodeEncodeError for lone surrogates, which have no UTF-8.
    """
    return "".join("/" + quote(segment.encode(), safe="/~") for segment in segments)


def encode_query(parameters: Iterable[tuple[str, str]]) -> str:
    """A query in the order and encoding that are signed; it is sent exactly so."""
    encoded = [(quote(name, safe="~"), quote(value, safe="~")) for name, value in parameters]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def authorize(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    scope: SigningScope,
    credentials: Credentials,
    payload: str = UNSIGNED_PAYLOAD,
) -> dict[str, str]:
    """Everything that the request's headers must be: those given, those of the signature, the signature.

    `path` and `query` are encoded already; the names in `headers` are lower-case and hold `host`.
    """
    signed = dict(headers)
    signed["x-amz-date"] = scope.stamp
    if scope.service == "s3":
        signed["x-amz-content-sha256"] = payload
    if credentials.token is not None:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(name for name in signed if name not in _UNSIGNED_HEADERS)
    canonical = canonical_request(method, path, query, [(name, signed[name]) for name in names], payload)
    key = _signing_key(credentials.secret_key, scope.stamp[:8], scope.region, scope.service)
    signature = hmac.digest(key, string_to_sign(canonical, scope).encode(), "sha256").hex()
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


def canonical_request(
    method: str, path: str, query: str, headers: Iterable[tuple[str, str]], payload: str
) -> str:
    """What is signed of a request; `headers` are sorted by name."""
    pairs = [(name, " ".join(value.split())) for name, value in headers]
    lines = "".join(f"{name}:{value}\n" for name, value in pairs)
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(name for name, _ in pairs)}\n{payload}"


def string_to_sign(canonical: str, scope: SigningScope) -> str:
    """The digest of the canonical request, bound to its scope."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{_ALGORITHM}\n{scope.stamp}\n{scope}\n{digest}"


@lru_cache(maxsize=16)
def _stamp(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=64)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    # The same for a whole day: four of the five HMACs of a request are saved.
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
