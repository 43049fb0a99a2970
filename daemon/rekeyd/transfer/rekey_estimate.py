"""What a rotation will cost, from a listing alone: pure, and an estimate.

A listing says neither under which key a version lies nor what is locked or archived, so every object counts as one that
is still to be brought under the key: it is the most that there can be, but for what writers add meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.port import LIST_OBJECTS_MAX
from rekeyd.transfer.plan import PlanLimits, plan_carry
from rekeyd.transfer.rekey_plan import RekeyFacts, RekeyWay, plan_current

REQUEST_SECONDS = 0.05
"""How long a request takes that moves no bytes: what is usual within a region."""

STREAMED_BYTES_PER_SECOND = 100 * 1024**2
"""How much goes through one daemon, read and written again."""


@dataclass(slots=True)
class RotationEstimate:
    """How much there is, and what it takes."""

    objects: int = 0
    older_versions: int = 0
    bytes: int = 0
    streamed_bytes: int = 0
    """What has to pass through us."""
    ways: Counter[RekeyWay] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    kms_calls: int = 0

    def with_page(self, page: RotationEstimate) -> RotationEstimate:
        """The sum of this one and that of a further page."""
        return RotationEstimate(
            self.objects + page.objects,
            self.older_versions + page.older_versions,
            self.bytes + page.bytes,
            self.streamed_bytes + page.streamed_bytes,
            self.ways + page.ways,
            self.requests + page.requests,
            self.kms_calls + page.kms_calls,
        )

    def seconds(self, at_once: int) -> float:
        """About how long it takes where so many requests are under way at once."""
        waiting = sum(self.requests.values()) * REQUEST_SECONDS / at_once
        return round(waiting + self.streamed_bytes / STREAMED_BYTES_PER_SECOND, 1)

    def view(self, at_once: int) -> dict[str, object]:
        """As JSON."""
        return {
            "objects": self.objects,
            "older_versions": self.older_versions,
            "bytes": self.bytes,
            "streamed_bytes": self.streamed_bytes,
            "ways": dict(sorted(self.ways.items())),
            "requests": dict(sorted(self.requests.items())),
            "requests_total": sum(self.requests.values()),
            "kms_calls": self.kms_calls,
            "estimated_seconds": self.seconds(at_once),
        }


def estimate(histories: Iterable[ObjectVersion], facts: RekeyFacts, *, reencrypts: bool) -> RotationEstimate:
    """Count what is listed: of each key its newest version, with those beneath it in `older`."""
    found = RotationEstimate()
    for newest in histories:
        for version in newest.older:
            found.older_versions += not version.marker
            if not version.marker:
                _add_older(found, version, facts, reencrypts=reencrypts)
        if newest.marker:
            continue
        found.objects += 1
        found.bytes += newest.size_bytes
        _add_current(found, newest.size_bytes, facts, reencrypts=reencrypts)
    pages = max(-(-found.objects // LIST_OBJECTS_MAX), 1)
    # Listed for the pass and for the look at every version after it, in which each is asked about once more.
    found.requests["list"] += pages * (2 if reencrypts else 1)
    found.requests["head"] += found.objects + found.older_versions
    return found


def _add_older(
    found: RotationEstimate, version: ObjectVersion, facts: RekeyFacts, *, reencrypts: bool
) -> None:
    found.bytes += version.size_bytes
    updates = reencrypts and facts.updates
    found.ways["update" if updates else "leave"] += 1
    if updates:
        found.requests += Counter({"head": 1, "update": 1})
        found.kms_calls += 1


def _add_current(found: RotationEstimate, size_bytes: int, facts: RekeyFacts, *, reencrypts: bool) -> None:
    if not reencrypts:
        found.ways["leave"] += 1
        return
    way: RekeyWay = "update" if facts.updates else plan_current(size_bytes, facts).way
    found.ways[way] += 1
    # Looked at before, and read back after.
    found.requests["head"] += 2
    match way:
        case "update":
            found.requests["update"] += 1
            found.kms_calls += 1
        case "copy":
            found.requests += Counter({"head": 1, "copy": 1})
            found.kms_calls += 2
        case "copy_parts":
            parts = _parts(size_bytes, facts.limits, server_side=True)
            found.requests += Counter(
                {"head": 1, "begin_upload": 1, "copy_part": parts, "complete_upload": 1}
            )
            found.kms_calls += _kms_calls_in_parts(parts)
        case _:
            _add_streamed(found, size_bytes, facts.limits)


def _add_streamed(found: RotationEstimate, size_bytes: int, limits: PlanLimits) -> None:
    found.streamed_bytes += size_bytes
    if plan_carry(size_bytes, server_side=False, limits=limits).way == "stream_whole":
        found.requests += Counter({"get": 1, "put": 1})
        found.kms_calls += 2
        return
    parts = _parts(size_bytes, limits, server_side=False)
    found.requests += Counter(
        {"head": 1, "get": parts, "begin_upload": 1, "put_part": parts, "complete_upload": 1}
    )
    found.kms_calls += _kms_calls_in_parts(parts)


def _parts(size_bytes: int, limits: PlanLimits, *, server_side: bool) -> int:
    return len(plan_carry(size_bytes, server_side=server_side, limits=limits).spans(size_bytes))


def _kms_calls_in_parts(parts: int) -> int:
    """Two for each part, and two for the upload.

    The source is decrypted part by part, and each part needs the upload's data key, which is made once and used
    once more at the end ("Multipart upload and permissions": kms:GenerateDataKey and kms:Decrypt, S3 User Guide).
    """
    return 2 * parts + 2
