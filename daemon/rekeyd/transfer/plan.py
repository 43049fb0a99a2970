"""How one object is carried: a decision, without any waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.objects import ByteSpan

PARTS_MAX = 10_000
PART_BYTES_FLOOR = 5 * 1024**2
PART_BYTES_CEILING = 5 * 1024**3
OBJECT_BYTES_MAX = PARTS_MAX * PART_BYTES_CEILING
"""S3's bounds for multipart uploads and server-side copies; an object of S3's largest, 50 TB, fits
(docs.aws.amazon.com, "Amazon S3 multipart upload limits")."""

_MEBIBYTE = 1024**2


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """The sizes at which the way of carrying changes, all in bytes."""

    single_put_bytes_max: int
    """Up to it an object is held in memory whole, and written with its checksum in the request."""
    part_bytes: int
    """The size of a part where the object doesn't need larger ones."""
    copy_object_bytes_max: int
    """Up to it a server-side copy is one request; beyond it parts of this size are copied."""


Way = Literal[
    "copy_whole",  # one CopyObject
    "copy_parts",  # UploadPartCopy, part by part
    "stream_whole",  # one GET into memory, one PUT
    "stream_parts",  # ranged GETs flow into UploadPart, part by part
]


@dataclass(frozen=True, slots=True)
class CarryPlan:
    """The way an object goes, and the spans of its parts where it goes in parts."""

    way: Way
    part_bytes: int

    def spans(self, size_bytes: int) -> list[ByteSpan]:
        """The parts' spans, in order, without gap or overlap; at most 10,000, the first is part 1."""
        return spans_of(size_bytes, self.part_bytes)


def plan_carry(size_bytes: int, *, server_side: bool, limits: PlanLimits) -> CarryPlan:
    """Choose the way for an object of `size_bytes` (0 to 10,000 parts of 5 GiB).

    `server_side` says whether one store can copy it without its bytes passing through us. Raises ValueError
    for an object larger than a store can hold.
    """
    if not 0 <= size_bytes <= OBJECT_BYTES_MAX:
        raise ValueError(f"no object has {size_bytes} bytes")
    if server_side:
        if size_bytes <= min(limits.copy_object_bytes_max, PART_BYTES_CEILING):
            return CarryPlan("copy_whole", max(size_bytes, 1))
        return CarryPlan("copy_parts", bounded_part_bytes(size_bytes, limits.copy_object_bytes_max))
    if size_bytes <= limits.single_put_bytes_max:
        return CarryPlan("stream_whole", max(size_bytes, 1))
    return CarryPlan("stream_parts", bounded_part_bytes(size_bytes, limits.part_bytes))


def spans_of(size_bytes: int, part_bytes: int) -> list[ByteSpan]:
    """Cut `size_bytes` (at least 1) into spans of `part_bytes`, the last one as long as what is left."""
    return [
        ByteSpan(first, min(first + part_bytes, size_bytes)) for first in range(0, size_bytes, part_bytes)
    ]


def bounded_part_bytes(size_bytes: int, wanted_bytes: int) -> int:
    """The wanted size of a part, within the store's bounds, grown to whole MiB where 10,000 wouldn't do."""
    needed_bytes = -(-size_bytes // PARTS_MAX)
    if needed_bytes > wanted_bytes:
        wanted_bytes = -(-needed_bytes // _MEBIBYTE) * _MEBIBYTE
    return min(max(wanted_bytes, PART_BYTES_FLOOR), PART_BYTES_CEILING)
