"""Objects, their versions, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from rekeyd.domain.errors import RefusedError

OWN_PREFIX = ".rekeyd/"
"""Keys under it in a dedicated bucket are rekeyd's own: never a tenant's data."""

KEY_CANARIES = OWN_PREFIX + "canary-of/"
"""Where each KMS key that was rotated to or from has a canary of its own: it stays under that key."""

KEY_BYTES_MAX = 1024
"""S3's longest key, in bytes of UTF-8 (docs.aws.amazon.com, "Naming Amazon S3 objects")."""

NULL_VERSION = "null"
"""The id of what was written while the bucket kept no versions ("Working with objects in a versioning-enabled
bucket", Amazon S3 User Guide). It names a place, not a version: another one may take it."""

_STORE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


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
    """None where the bucket keeps no versions. `null` (NULL_VERSION) is no pin: whoever asks for it names its ETag."""
    modified: str | None = None
    """The listing's own LastModified, opaque: another one is a reason to carry again, equality is none not to; None
    where it wasn't listed. Only listings fill it, so a version from elsewhere is compared by its other fields."""
    marker: bool = False
    """A delete marker: no bytes, no ETag. Where it is the newest, the key is absent to readers."""
    older: tuple[ObjectVersion, ...] = ()
    """The versions and markers beneath it in its key's history, the oldest first. None of them has any `older`."""

    @property
    def chain(self) -> tuple[ObjectVersion, ...]:
        """The whole history, the oldest first and this one last, none of them with its `older`."""
        return (*self.older, replace(self, older=()))

    @property
    def history_bytes(self) -> int:
        """How many bytes the whole history has."""
        return self.size_bytes + sum(version.size_bytes for version in self.older)


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """The bytes `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes the span has."""
        return self.end - self.first


LockMode = Literal[
    "GOVERNANCE",  # whoever has the permission for it may end the retention early
    "COMPLIANCE",  # nobody may
]


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What protects one version from its deletion ("Object Lock", Amazon S3 User Guide).

    Two that protect alike are equal. Raises ValueError for what S3 has no word for: a mode without a time, a time
    without a mode, a time that is none, and no protection at all (that is None, in the place of a lock).
    """

    mode: LockMode | None = None
    retain_until: str | None = None
    """An RFC 3339 time in UTC, as `2030-01-31T00:00:00Z`, with a fraction where it has one. Any spelling is taken."""
    legal_hold: bool = False

    def __post_init__(self) -> None:
        """Bring the time into its one spelling."""
        if (self.mode is None) != (self.retain_until is None):
            raise ValueError("a lock has both a mode and a time, or neither")
        if self.retain_until is None:
            if not self.legal_hold:
                raise ValueError("a lock that protects from nothing is None")
            return
        object.__setattr__(self, "retain_until", _utc_text(parse_time(self.retain_until)))

    def in_force(self, now: datetime) -> ObjectLock | None:
        """What of it still protects then: a time that has passed can't be set anew."""
        if self.retain_until is None or now < parse_time(self.retain_until):
            return self
        return ObjectLock(legal_hold=True) if self.legal_hold else None

    def protects_at(self, now: datetime) -> bool:
        """Whether it forbids the deletion then."""
        return self.legal_hold or (self.retain_until is not None and now < parse_time(self.retain_until))


def parse_time(text: str) -> datetime:
    """An RFC 3339 time; what is finer than a microsecond is cut off. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    fraction = (found["fraction"] or "")[:6].ljust(6, "0")
    zone = "+00:00" if found["zone"] in "Zz" else found["zone"]
    return datetime.fromisoformat(f"{found['date']}T{found['time']}.{fraction}{zone}").astimezone(UTC)


def _utc_text(time: datetime) -> str:
    text = time.replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if time.microsecond else text) + "Z"


@dataclass(frozen=True, slots=True)
class Attributes:
    """What travels along with the bytes of an object."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names, only those of `CARRIED_HEADERS`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata, names in lower case without their `x-amz-meta-`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    lock: ObjectLock | None = None
    """None where nothing protects the version, or the store didn't say."""


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
    """`aws:kms`, `aws:kms:dsse` (encrypted twice), `AES256`, `SSE-C` (the key travels with each request), or empty."""
    key: str = ""
    """The key as the store reports it: an ARN or an id."""
    bucket_key: bool = False
    """Whether it has an S3 Bucket Key, by which S3 goes on for a while without asking KMS; where the store says so."""


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
    archived: bool = False
    """It lies in an archive: it must be restored before it can be read or copied. Its lock, attributes and tags can."""


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
