"""What the ledger gives and takes: plain values, without a word about how it is kept.

They are part of the port (ledger.port), and are had from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rekeyd.domain.evidence import Verdict
from rekeyd.domain.job import HeldReason, Job, JobState
from rekeyd.domain.key import KeyState, PlacedKey, WrappedKey, placed_key
from rekeyd.domain.objects import CarryState, Location, ObjectVersion

SEGMENT_OBJECTS_MAX = 1000
SEGMENT_BYTES_MAX = 64 * 1024**3
"""A segment holds at most so many versions of objects, and so many bytes, unless a single object has more."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a job that was offered. A conflict is raised, not returned."""

    job: Job
    created: bool
    """False where the same job was known already."""


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A lease on a job."""

    job: Job
    holder: str
    fence: int
    lease_seconds: float
    """How long it lasts from the grant or the last renewal on."""


@dataclass(frozen=True, slots=True)
class TenantKey:
    """A customer key of a tenant, as the ledger knows it. Times are the database's."""

    ref: str
    """By which jobs name it."""
    tenant: str
    kind: str
    state: KeyState
    former_state: KeyState | None
    """Of a revoked one the state that it had before."""
    arn: str | None
    """Where the provider has it; None while it is still to be imported."""
    alias: str | None
    created_at: float
    changed_at: float
    fingerprint: str | None = None
    """Of a key that was brought: what its material is known by."""
    material_id: str | None = None
    """What the provider encrypts with under it, as it was last seen; None as long as that was never told."""

    @property
    def placed(self) -> PlacedKey | None:
        """Where it is; None while it is still to be imported."""
        return placed_key(self.kind, self.arn, self.alias)


@dataclass(frozen=True, slots=True)
class PendingImport:
    """What is to become a key of the key service."""

    wrapped: WrappedKey
    begun_before: bool
    """Whether an attempt before may have made the key already."""


@dataclass(frozen=True, slots=True)
class TenantMove:
    """A tenant's way from a source to a target, whatever jobs lead there."""

    move_id: int
    tenant: str
    source: Location
    target: Location
    provisioned: bool = False
    """Whether making the target the tenant's dedicated bucket was begun: until then nothing there is ours."""

    @property
    def in_place(self) -> bool:
        """Whether it leads from a location to itself: a rotation's, without a control object of its own."""
        return self.source == self.target


SegmentStage = Literal[
    "carry",  # copy and verify what was listed
    "sweep",  # delete target copies of what has vanished from the source
    "retire",  # delete verified source versions
]


@dataclass(frozen=True, slots=True)
class SegmentClaim:
    """A lease on a segment."""

    segment_id: int
    job: Job
    stage: SegmentStage
    holder: str
    fence: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Copy:
    """One version or marker of a key's history, and its copy in a target that keeps versions."""

    source: ObjectVersion
    target: ObjectVersion
    key_arn: str = ""
    """The customer key under which it was verified; empty for a marker."""
    crc64nvme: int | None = None
    """None for a marker."""
    evidence: str = ""
    """As an outcome's."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What the ledger knows of one key of a move."""

    source: ObjectVersion
    """The source version that is to be carried, or was, with its history. Its key is the source's whole key."""
    state: CarryState
    attempts: int
    """How often in a row it was tried in vain."""
    target: ObjectVersion | None
    """The copy as it was last known to stand in the target, written by us."""
    planned_before: tuple[ObjectVersion, ...]
    """Earlier source versions whose copying was planned and perhaps begun, with an outcome that isn't known."""
    crc64nvme: int | None
    copies: tuple[Copy, ...] = ()
    """Where the target keeps versions: what stands there under the key, as last known, the oldest first. Of an object
    that was brought under another key where it stands: what was there before, and what is there now."""
    copy_requests: tuple[str, ...] = ()
    """How the store named the requests that made what stands in the target, as far as it answered them."""


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """What became of one object of a segment. It counts only while the row still names this source version."""

    source: ObjectVersion
    state: Literal["listed", "stale", "verified", "excluded", "failed", "dropped", "deleted", "remaining"]
    """`listed`: tried in vain this time, to be tried again; its attempts grow by one (a row that is `vanished`,
    `verified` or `retiring` stays so). `stale`: the source has
    another version by now, or none; only a later pass settles it (listed anew it is `listed`, whatever its
    version; else `vanished`), and `switch` refuses while there is one."""
    reason: str = ""
    """For a person: why it is not verified, or is excluded or remaining."""
    verdict: Verdict | None = None
    """Where both sides were compared."""
    target: ObjectVersion | None = None
    """Where known, the copy that stands in the target now. None leaves what is recorded."""
    crc64nvme: int | None = None
    evidence: str = ""
    """How both checksums came about, `streamed/computed_by_provider` say."""
    copies: tuple[Copy, ...] | None = None
    """Where the target keeps versions: what is known to stand there now. None leaves what is recorded."""
    request_ids: tuple[str, ...] = ()
    """Where the source was deleted: how the store named the requests that did it."""
    copy_requests: tuple[str, ...] | None = None
    """How it named those that made what stands in the target now. None leaves what is recorded."""


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """An object's row with all that is evidence."""

    object: ObjectRow
    reason: str
    evidence: str
    """How both checksums came about, as an outcome's; of a history its copies have each their own."""
    request_ids: tuple[str, ...]
    """Of the requests that deleted its source."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of where all chains of the audit trail stood."""

    number: int
    """From 1 on, without gaps."""
    text: str
    """As it was signed: canonical JSON."""


@dataclass(frozen=True, slots=True)
class PassState:
    """A pass over the source."""

    number: int
    """From 1 on."""
    pause_epoch: int | None
    """The epoch of the pause in which it is made; None for one while writers go on."""
    resume_after: str | None
    """The cursor with which its listing goes on."""
    settling: bool
    """Its listing is complete, and not all of what it did not list is `vanished` yet: go on with `settle_missing`."""
    listed: bool
    """Its listing is complete; what it did not list has vanished, and those rows are `vanished` now."""
    changed_objects: int
    changed_bytes: int
    """What it found that has to be carried or swept."""
    open_segments: int
    """Segments of this pass and those before it that aren't done."""
    terms_hold: bool
    """What counts as verified does so under the key and the `verify` of the claim's job. Where it doesn't, another
    job's pass is looked at: go on with `begin_pass`, what is verified before it has to be carried again."""


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What operators watch."""

    jobs: Mapping[tuple[str, JobState], int]
    held: Mapping[HeldReason, int]
    keys: Mapping[KeyState, int]
    oldest_queued_at: float | None
    """Since when the queued job waits that could have been claimed the longest; None where none could be."""


StoreAction = Literal[
    "bucket.provision_intended",  # the dedicated bucket is about to be made what it must be
    "bucket.provisioned",  # how it was read back
    "conditions.proof_intended",  # objects of our own are about to be written, and removed again
    "conditions.proven",  # the stores were shown to heed conditions
    "uploads.abort_intended",  # unfinished uploads in the target are about to be given up
    "evidence.write_intended",  # evidence and certificate are about to be written to the target
    "alias.pointed",  # the alias that we keep for the tenant leads to another key
    "evidence.written",  # the evidence stands in the target, with this root
]
