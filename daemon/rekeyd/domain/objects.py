"""Objects, their versions, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rekeyd.domain.errors import RefusedError

OWN_PREFIX = ".rekeyd/"
"""Keys under it in a dedicated bucket are rekeyd's own: never a tenant's data."""

KEY_BYTES_MAX = 1024
"""S3's longest key, in bytes of UTF-8 (docs.aws.amazon.com, "Naming Amazon S3 objects")."""

_STORE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Location:
    """A store, a bucket and a prefix. The prefix is compared as it is, byte for byte, and ends in `/` or is empty."""

    store: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str, field_name: str = "location") -> Location:
        """Read `<store>://<bucket>/<prefix>`. Raises RefusedError naming `field_name`."""
        store, scheme, rest = text.partition("://")
        bucket, slash, prefix = rest.partition("/")
        if not scheme or not _STORE.fullmatch(store):
            raise RefusedError(field_name, f"{text!r} is not <store>://<bucket>/<prefix>")
        if not slash or not _BUCKET.fullmatch(bucket):
            raise RefusedError(
                field_name, f"{text!r} does not name a bucket followed by '/' (3 to 63 of a-z 0-9 . -)"
            )
        if prefix and not prefix.endswith("/"):
            raise RefusedError(field_name, f"the prefix of {text!r} does not end in '/'")
        if len(prefix.encode("utf-8", "surrogatepass")) >= KEY_BYTES_MAX:
            raise RefusedError(field_name, f"the prefix is longer than {KEY_BYTES_MAX - 1} bytes")
        return cls(store, bucket, prefix)

    def __str__(self) -> str:
        """The location as it stands in messages and settings."""
        return f"{self.store}://{self.bucket}/{self.prefix}"

    def overlaps(self, other: Location) -> bool:
        """Whether one of the two is, or lies within, the other."""
        if (self.store, self.bucket) != (other.store, other.bucket):
            return False
        return self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Exactly one object: a bare key never identifies data."""

    key: str
    size_bytes: int
    etag: str
    """As the store gives it, without the quotes. It names a version; it is never a content hash."""
    version_id: str | None = None
    """None where the bucket keeps no versions; a `null` id is no pin and is None too."""
    modified: str | None = None
    """The listing's own LastModified, opaque: another one is a reason to carry again, equality is none not to; None
    where it wasn't listed. Only listings fill it, so a version from elsewhere is compared by its other fields."""


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """The bytes `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes the span has."""
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Attributes:
    """What travels along with the bytes of an object."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names, only those of `CARRIED_HEADERS`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, names in lower case without their `x-amz-meta-`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"


CARRIED_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
)

ChecksumOrigin = Literal[
    "computed_by_provider",  # the store computed it from the bytes that it holds
    "read",  # we read the stored bytes and computed it
    "streamed",  # we computed it from the bytes that we sent, and the store confirmed the same
    "carried",  # copied along with the object: it says nothing about the bytes here
]


@dataclass(frozen=True, slots=True)
class Checksum:
    """The CRC64NVME of a whole object, and how it came about."""

    crc64nvme: int
    origin: ChecksumOrigin


@dataclass(frozen=True, slots=True)
class Encryption:
    """How an object lies in a store."""

    algorithm: str
    """`aws:kms`, `AES256`, or empty for none."""
    key: str = ""
    """The key as the store reports it: an ARN or an id."""


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store says about one object version. Tags are read apart: only their count is known here."""

    version: ObjectVersion
    attributes: Attributes
    tag_count: int | None
    """None where the store doesn't say: then only reading the tags tells."""
    encryption: Encryption
    crc64nvme: int | None
    """Of the full object, as the store reports it; how far it is to be believed depends on how it came there."""


CarryState = Literal[
    "listed",  # seen in the source; a copy may have been begun, its outcome isn't known
    "stale",  # the source had another version, or none, when it was to be copied: the next pass tells
    "verified",  # both sides were compared and are equal
    "excluded",  # not to be moved, with a reason
    "failed",  # tried as often as allowed; the reason says why
    "vanished",  # was listed once, is gone from the source; its copy is to be deleted
    "dropped",  # vanished, and no copy of it is in the target
    "retiring",  # the source's deletion is intended; whether it happened isn't known
    "deleted",  # the verified source version is gone, by our deletion or before it
    "remaining",  # the source holds another version than the verified one: reported, never deleted
]
"""The states of an object's row in the ledger."""
