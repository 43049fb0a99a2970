"""Evidence, object by object: what became of each of a move's keys. One line of JSON each, and a leaf of the tree.

A leaf is the canonical JSON of a `Leaf`, byte for byte as it stands in the evidence objects, without the line's end.
"""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.objects import CarryState, ChecksumOrigin
from rekeyd.domain.signed import NotHeldError, strict_json, utf8

EVIDENCE_SCHEMA: Literal["rekeyd.evidence/1"] = "rekeyd.evidence/1"

_CRC_BYTES = 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Copied(_Part):
    """One copy of one version: in the source, or in the target."""

    version_id: str | None
    etag: str
    size_bytes: int
    crc64nvme: str | None
    """As S3 writes it (x-amz-checksum-crc64nvme): base64 of eight bytes, the highest first. None where not known."""
    checksum_origin: ChecksumOrigin | None
    """How the checksum came about; None for one that the store reports, carried along perhaps."""


RekeyedHow = Literal[
    "updated",  # the store changed its key; its bytes didn't move
    "copied",  # the store copied it onto itself
    "streamed",  # it was read, and written over itself
    "found",  # it lay under the key when it was looked at, whoever brought it there
    "left",  # it stays under another key, or nobody looked at it
]
"""How a version came to lie under the key of a rotation."""

Compared = Literal[
    "key",  # the key that the store reports is the rotation's
    "size",  # of both sides
    "attributes",  # headers, metadata, tags and lock of both sides, as the store reports them
    "crc64nvme",  # the checksums that the store reports of both sides
    "bytes",  # the checksum of all bytes that were read, and that of those that arrived
]


class VersionEvidence(_Part):
    """What is known of one version, or delete marker, of a key's history.

    Of a rotation `source` is what was there before, `target` what is there now.
    """

    marker: bool
    modified: str | None
    """As the source listed it."""
    source: Copied
    target: Copied | None
    """None where there is no copy, or nobody looked at it."""
    encryption_key: str | None
    """The customer key under which the copy was seen to lie; None for a marker, and where there is no copy."""
    how: RekeyedHow | None = None
    """Of a rotation alone."""
    compared: tuple[Compared, ...] = ()
    """Of a rotation alone: what was seen to be equal on both sides, or as it should be."""
    reason: str = ""
    """Of a rotation alone, for a person: why it was left."""


class Leaf(_Part):
    """What became of one key."""

    key: str
    """In the source."""
    target_key: str | None
    outcome: CarryState
    reason: str
    """For a person: why it is excluded or remaining."""
    delete_requests: tuple[str, ...]
    """The ids that the store gave the requests that deleted it; none where it was found to be gone already."""
    versions: tuple[VersionEvidence, ...]
    """The oldest first."""
    copy_requests: tuple[str, ...] = ()
    """The ids that the store gave the requests that made the copies, as far as it answered them."""

    @property
    def size_bytes(self) -> int:
        """Those of the whole history in the source."""
        return sum(version.source.size_bytes for version in self.versions)

    def data(self) -> bytes:
        """The leaf's bytes."""
        return utf8(canonical_json(self.view()))

    def view(self) -> dict[str, object]:
        """As JSON, with no field that it wasn't given: one of before there was such a field stays what it was."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def of_data(cls, data: bytes) -> Leaf:
        """Read one. Raises NotHeldError for anything else."""
        return cls.of_object(strict_json(data))

    @classmethod
    def of_object(cls, value: object) -> Leaf:
        """The same of JSON that was read."""
        try:
            # As JSON: what has no tuples there is a list.
            return cls.model_validate(value, strict=False)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise NotHeldError("unreadable", f"no evidence of an object: {where} {first['msg']}") from error


def crc64nvme_text(crc: int | None) -> str | None:
    """A checksum in S3's spelling."""
    return None if crc is None else base64.b64encode(crc.to_bytes(_CRC_BYTES)).decode()


def crc64nvme_value(text: str) -> int:
    """A checksum in S3's spelling as a number. Raises NotHeldError."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NotHeldError("unreadable", f"{text!r} is no checksum") from error
    if len(raw) != _CRC_BYTES:
        raise NotHeldError("unreadable", f"{text!r} is no CRC64NVME")
    return int.from_bytes(raw)
