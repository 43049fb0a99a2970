"""What the store in memory holds, and its rules: conditions, pins, keys. Nothing here waits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from awscrt.checksums import crc64nvme as crc64nvme_of

from rekeyd.domain.errors import (
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
    ObjectHead,
    ObjectVersion,
)
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

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
PART_NUMBER_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Stored:
    """An object."""

    data: bytes
    attributes: Attributes
    encryption: Encryption
    crc64nvme: int | None
    etag: str
    modified: str
    """When it was written, as a listing says it."""

    def version(self, key: str) -> ObjectVersion:
        """It under its key."""
        return ObjectVersion(key, len(self.data), self.etag)

    def listed(self, key: str) -> ObjectVersion:
        """It as a listing names it."""
        return replace(self.version(key), modified=self.modified)

    def head(self, key: str) -> ObjectHead:
        """What a store says of it. Tags are counted, not shown."""
        return ObjectHead(
            version=self.version(key),
            attributes=replace(self.attributes, tags={}),
            tag_count=len(self.attributes.tags),
            encryption=self.encryption,
            crc64nvme=self.crc64nvme,
        )


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
    objects: dict[str, Stored] = field(default_factory=dict)
    default_encryption: Encryption = field(default_factory=lambda: Encryption(""))
    tags: Mapping[str, str] = field(default_factory=dict)
    public_access_blocked: bool = False


class Shelf:
    """Buckets, objects and uploads. Each change happens in one step of the event loop."""

    def __init__(self) -> None:
        self.disabled_keys: set[str] = set()
        """ARNs of keys that can't be used; whoever tests changes it at any time."""
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Begun] = {}
        self._serial = 0

    def make_bucket(self, name: str, region: str = "us-east-1") -> None:
        """Make an empty bucket, unless there is one."""
        self.buckets.setdefault(name, Bucket(region))

    def bucket(self, operation: str, name: str) -> Bucket:
        """The bucket. Raises NotFoundError."""
        if name not in self.buckets:
            raise NotFoundError(operation, f"no bucket {name!r}", code="NoSuchBucket")
        return self.buckets[name]

    def stored(self, operation: str, bucket: str, key: str) -> Stored:
        """The object under a key. Raises NotFoundError."""
        found = self.bucket(operation, bucket).objects.get(key)
        if found is None:
            raise NotFoundError(operation, f"no object {key!r}", code="NoSuchKey")
        return found

    def pinned(self, operation: str, bucket: str, version: ObjectVersion) -> Stored:
        """Exactly this version, with the right to read it."""
        found = self.stored(operation, bucket, version.key)
        if version.version_id is not None:
            raise NotFoundError(operation, f"{version.key!r} has no version {version.version_id!r}")
        if found.etag != version.etag:
            error = PreconditionError(operation, f"{version.key!r} is another version")
            error.side = "source"
            raise error
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
        objects = self.bucket(operation, bucket).objects
        if not _holds(condition, objects.get(key)):
            error = PreconditionError(operation, f"{key!r}: {condition} doesn't hold")
            error.side = "target"
            raise error
        objects[key] = stored
        return Written(stored.etag, None, stored.crc64nvme, stored.encryption, f"request-{self.next()}")

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
        found = objects.get(version.key)
        if found is None or version.version_id is not None:
            return DeleteOutcome(version, "deleted")
        if found.etag != version.etag:
            return DeleteOutcome(version, "changed", "PreconditionFailed")
        del objects[version.key]
        return DeleteOutcome(version, "deleted")


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
