"""What the store in memory holds, and its rules: conditions, pins, keys. Nothing here waits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import assert_never

from awscrt.checksums import crc64nvme as crc64nvme_of

from rekeyd.domain.bucket_policy import Policy, refusal, refuses_everybody
from rekeyd.domain.errors import (
    AccessDeniedError,
    ArchivedError,
    CustomerKeyError,
    KeyUnusableError,
    NotFoundError,
    PreconditionError,
    StoreRefusedError,
)
from rekeyd.domain.objects import (
    CARRIED_HEADERS,
    KEY_BYTES_MAX,
    Attributes,
    Encryption,
    ObjectLock,
    ObjectVersion,
    parse_time,
)
from rekeyd.stores.memory.histories import Histories, Stored
from rekeyd.stores.port import (
    DeleteOutcome,
    IfAbsent,
    IfMatches,
    Part,
    UnderKey,
    Upload,
    WriteCondition,
    Written,
)

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "Begun",
    "Bucket",
    "Shelf",
    "Stored",
    "check_key",
    "kept_attributes",
]

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
PART_NUMBER_MAX = 10_000


@dataclass(slots=True)
class Begun:
    """An unfinished upload."""

    upload: Upload
    attributes: Attributes
    encryption: Encryption
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """A bucket and its configuration."""

    region: str
    objects: Histories
    default_encryption: Encryption = field(default_factory=lambda: Encryption(""))
    tags: Mapping[str, str] = field(default_factory=dict)
    public_access_blocked: bool = False
    object_lock: bool = False
    policy: Policy = field(default_factory=dict)
    """Kept, and enforced where it refuses everybody: else nobody here has a name."""
    unfinished_uploads_expire_after_days: int = 0


class Shelf:
    """Buckets, objects and uploads. Each change happens in one step of the event loop."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.disabled_keys: set[str] = set()
        """ARNs of keys that can't be used; whoever tests changes it at any time."""
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Begun] = {}
        self._now = now
        self._serial = 0

    def make_bucket(
        self, name: str, region: str = "us-east-1", *, versioned: bool = False, object_lock: bool = False
    ) -> None:
        """Make an empty bucket, unless there is one. Versioning and locks are turned on where they are asked for."""
        bucket = self.buckets.setdefault(name, Bucket(region, Histories(self.next)))
        if versioned or object_lock:
            bucket.objects.versioning = "enabled"
        bucket.object_lock = bucket.object_lock or object_lock

    def bucket(self, operation: str, name: str) -> Bucket:
        """The bucket. Raises NotFoundError."""
        if name not in self.buckets:
            raise NotFoundError(operation, f"no bucket {name!r}", code="NoSuchBucket")
        return self.buckets[name]

    def open_bucket(self, operation: str, name: str) -> Bucket:
        """The bucket, for a call about an object in it. Raises AccessDeniedError where it refuses everybody."""
        bucket = self.bucket(operation, name)
        if refuses_everybody(bucket.policy, refusal(name, _partition(bucket.region))):
            raise AccessDeniedError(operation, f"the policy of {name!r} denies it", code="AccessDenied")
        return bucket

    def stored(self, operation: str, bucket: str, key: str, version_id: str | None = None) -> Stored:
        """The object under a key, or the version with an id. Raises NotFoundError."""
        objects = self.open_bucket(operation, bucket).objects
        found = objects.get(key) if version_id is None else objects.find(key, version_id)
        if found is None:
            code = "NoSuchKey" if version_id is None else "NoSuchVersion"
            raise NotFoundError(operation, f"no object {key!r} {version_id or ''}", code=code)
        if found.marker:
            raise NotFoundError(operation, f"{key!r} {version_id} is a marker", code="MethodNotAllowed")
        return found

    def seen(self, operation: str, bucket: str, key: str, version_id: str | None = None) -> Stored:
        """The same, with the right to know anything of it. Raises CustomerKeyError."""
        found = self.stored(operation, bucket, key, version_id)
        if found.encryption.algorithm == "SSE-C":
            raise CustomerKeyError(operation, f"{key!r} needs its key", code="InvalidRequest")
        return found

    def pinned(self, operation: str, bucket: str, version: ObjectVersion) -> Stored:
        """Exactly this version, with the right to read it."""
        found = self.seen(operation, bucket, version.key, version.version_id)
        if found.etag != version.etag:
            error = PreconditionError(operation, f"{version.key!r} is another version")
            error.side = "source"
            raise error
        if found.archived:
            raise ArchivedError(operation, f"{version.key!r} must be restored", code="InvalidObjectState")
        self.use_key(operation, found.encryption)
        return found

    def use_key(self, operation: str, encryption: Encryption) -> None:
        """Do as if the key were used. Raises KeyUnusableError where it is disabled."""
        if encryption.key in self.disabled_keys:
            raise KeyUnusableError(operation, f"{encryption.key} is disabled", code="KMS.DisabledException")

    def encryption(self, operation: str, bucket: str, under: UnderKey | None) -> Encryption:
        """How a write is encrypted: as it says, or as the bucket's default has it."""
        default = self.bucket(operation, bucket).default_encryption
        return default if under is None else Encryption("aws:kms", under.key_arn)

    def make(
        self, data: bytes, attributes: Attributes, encryption: Encryption, crc64nvme: int | None
    ) -> Stored:
        """A new object, not yet in its place. Its ETag names it and says nothing of the content."""
        return Stored(data, attributes, encryption, crc64nvme, self.etag(), f"time {self.next()}")

    def etag(self) -> str:
        """An ETag as no other object has it."""
        return hashlib.sha256(f"etag {self.next()}".encode()).hexdigest()[:32]

    def next(self) -> int:
        """A number that wasn't given before."""
        self._serial += 1
        return self._serial

    def publish(
        self, operation: str, bucket: str, key: str, stored: Stored, condition: WriteCondition
    ) -> Written:
        """Put an object in its place. Raises PreconditionError."""
        objects = self.open_bucket(operation, bucket).objects
        if not _holds(condition, objects.get(key)):
            error = PreconditionError(operation, f"{key!r}: {condition} doesn't hold")
            error.side = "target"
            raise error
        kept = objects.write(key, stored)
        return Written(kept.etag, kept.version_id, kept.crc64nvme, kept.encryption, f"request-{self.next()}")

    def hide(self, operation: str, bucket: str, key: str, condition: IfMatches) -> Written:
        """Write a marker over exactly the current version; where no versions are kept, that deletes it."""
        objects = self.bucket(operation, bucket).objects
        if not _holds(condition, objects.get(key)):
            error = PreconditionError(operation, f"{key!r}: {condition} doesn't hold")
            error.side = "target"
            raise error
        if objects.versioning != "enabled":
            del objects[key]
            refused = StoreRefusedError(operation, f"no marker came of it: {bucket!r} keeps no versions")
            refused.outcome_unknown = True
            raise refused
        marker = objects.hide(key)
        return Written("", marker.version_id, None, marker.encryption, f"request-{self.next()}")

    def check_lock(self, operation: str, bucket: str, lock: ObjectLock | None) -> None:
        """Refuse a lock that a bucket can't keep, or that would be over before it began."""
        if lock is None:
            return
        if not self.bucket(operation, bucket).object_lock:
            raise StoreRefusedError(operation, f"{bucket!r} has no object lock", code="InvalidRequest")
        if lock.retain_until is not None and parse_time(lock.retain_until) <= self._time():
            raise StoreRefusedError(operation, "the retention ends in the past", code="InvalidArgument")

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def time_text(self) -> str:
        """The same, as listings write it."""
        return self._time().isoformat()

    def rekey(self, operation: str, bucket: str, key: str, stored: Stored, under: UnderKey) -> None:
        """Lead a version to another key where it stands: both keys are used. Raises StoreRefusedError for a lock."""
        if stored.encryption.algorithm not in ("AES256", "aws:kms") or stored.attributes.lock is not None:
            raise StoreRefusedError(operation, "not such a version", code="InvalidRequest")
        encryption = self.encryption(operation, bucket, under)
        self.use_key(operation, stored.encryption)
        self.use_key(operation, encryption)
        self.bucket(operation, bucket).objects.replace(key, replace(stored, encryption=encryption))

    def begun(self, operation: str, upload: Upload) -> Begun:
        """The upload. Raises NotFoundError."""
        if upload.upload_id not in self.uploads:
            raise NotFoundError(operation, f"no upload {upload.upload_id}", code="NoSuchUpload")
        return self.uploads[upload.upload_id]

    def keep_part(self, operation: str, upload: Upload, number: int, data: bytes) -> Part:
        """Keep a part, in the place of an earlier one of its number."""
        begun = self.begun(operation, upload)
        if not 1 <= number <= PART_NUMBER_MAX:
            raise StoreRefusedError(operation, f"part {number}: 1 to {PART_NUMBER_MAX} are allowed")
        self.use_key(operation, begun.encryption)
        part = Part(number, self.etag(), len(data), crc64nvme_of(data))
        begun.parts[number] = (part, data)
        return part

    def delete(self, bucket: str, version: ObjectVersion) -> DeleteOutcome:
        """Delete exactly this version."""
        objects = self.bucket("delete", bucket).objects
        if version.version_id is None:
            return self._delete_current(objects, version)
        found = objects.find(version.key, version.version_id)
        if found is None:
            return DeleteOutcome(version, "deleted")
        if found.version_id is None and (found.etag, found.marker) != (version.etag, version.marker):
            return DeleteOutcome(version, "changed", "PreconditionFailed")
        lock = found.attributes.lock
        if lock is not None and lock.protects_at(self._time()):
            return DeleteOutcome(version, "failed", "AccessDenied: it is locked")
        objects.drop(version.key, found.version_id)
        return DeleteOutcome(version, "deleted", request_id=f"request-{self.next()}")

    def _delete_current(self, objects: Histories, version: ObjectVersion) -> DeleteOutcome:
        found = objects.get(version.key)
        if found is None:
            return DeleteOutcome(version, "deleted")
        if found.etag != version.etag:
            return DeleteOutcome(version, "changed", "PreconditionFailed")
        del objects[version.key]
        if objects.versioning == "off":
            return DeleteOutcome(version, "deleted", request_id=f"request-{self.next()}")
        return DeleteOutcome(version, "failed", "it was only hidden: the bucket keeps versions")


def check_key(operation: str, key: str) -> None:
    """Refuse what isn't a key. Raises StoreRefusedError."""
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise StoreRefusedError(operation, "a key without UTF-8") from error
    if not 1 <= size_bytes <= KEY_BYTES_MAX:
        raise StoreRefusedError(operation, f"a key of {size_bytes} bytes", code="KeyTooLongError")


def kept_attributes(operation: str, attributes: Attributes) -> Attributes:
    """The attributes as S3 keeps them: metadata in lower case, a content type where none was given."""
    unknown = attributes.headers.keys() - set(CARRIED_HEADERS)
    if unknown:
        raise StoreRefusedError(operation, f"headers that aren't carried: {sorted(unknown)}")
    return replace(
        attributes,
        headers={"content-type": DEFAULT_CONTENT_TYPE, **attributes.headers},
        metadata={name.lower(): value for name, value in attributes.metadata.items()},
        tags=dict(attributes.tags),
    )


def _holds(condition: WriteCondition, stands: Stored | None) -> bool:
    match condition:
        case IfAbsent():
            return stands is None
        case IfMatches(etag):
            return stands is not None and stands.etag == etag
        case never:
            assert_never(never)


def _partition(region: str) -> str:
    """In which partition AWS has a region ("Amazon Resource Names (ARNs)", IAM User Guide)."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
