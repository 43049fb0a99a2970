"""A tenant's placement: where its data are read and written, and how that changes, step by step.

The record in the ledger is the truth; what is served from it is good for one time to live. The steps are
functions from a record to the next one: the ledger commits them by compare-and-set on the epoch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from rekeyd.domain.errors import ConflictError, DistrustedError, RefusedError
from rekeyd.domain.key import KeyState
from rekeyd.domain.objects import Location

PlacementPhase = Literal[
    "shared",  # data are in the source, and written there
    "paused",  # data are in the source, nobody writes; ends by itself at the deadline
    "dedicated",  # data are in the target, and written there; final
    "revoked",  # the tenant's keys are withdrawn: nobody reads, nobody writes, until a reinstatement
]


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """What the ledger keeps of a tenant's placement. Times are the database's."""

    tenant: str
    source: Location
    target: Location | None
    phase: PlacementPhase
    epoch: int
    key_state: KeyState | None
    pause_ends_at: float | None = None
    """The deadline of the lease that a pause is. From it on the placement is `shared`, under the next epoch."""
    writes_from: float | None = None
    """Before it nobody writes to the target, so that no reader still looks at the source by then. None while the
    switch isn't known to the target yet: until then nobody writes at all."""
    proposed_epoch: int = 0
    """The highest epoch that was ever proposed. Above the one in effect: a pause's that hasn't begun yet."""
    key_ref: str | None = None
    """The customer key that the placement leads to; of a dedicated tenant the one under which its data lie."""
    revoked_from: PlacementPhase | None = None
    """Of a revoked one the phase in which it goes on once it is reinstated: `shared` or `dedicated`."""
    revoked_by: str | None = None
    """Of a revoked one the job that revoked it; only that one's reinstatement lifts it."""
    distrusted: str | None = None
    """Why this ledger can't say where the data are: it is older than what the target says. None: it can."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What readers and writers are told, and until when they may act on it."""

    tenant: str
    phase: PlacementPhase
    source: Location
    target: Location | None
    key_state: KeyState | None
    epoch: int
    reads: tuple[Location, ...]
    writes: tuple[Location, ...]
    deletes: Literal["allow", "defer"]
    writes_from: float | None
    expires_at: float


def unplaced(tenant: str, source: Location) -> PlacementRecord:
    """The placement of a tenant of whom the ledger knows nothing: where the vendor's pattern says."""
    return PlacementRecord(tenant, source, None, "shared", 0, None)


def in_effect(record: PlacementRecord, now: float) -> PlacementRecord:
    """The record as it holds at `now`: a pause past its deadline has ended, whoever may have died.

    Whoever serves it has the ledger commit that return first: until then the switch might still come before it.
    """
    over = record.pause_ends_at is not None and now >= record.pause_ends_at
    return _returned(record) if record.phase == "paused" and over else record


def serve(record: PlacementRecord, now: float, ttl_seconds: float) -> Placement:
    """The placement to act on from `now` for `ttl_seconds`.

    Raises DistrustedError where the ledger is known to be older than the target.
    """
    if record.distrusted is not None:
        raise DistrustedError(
            f"{record.tenant}: this ledger can't say where its data are: {record.distrusted}"
        )
    held = in_effect(record, now)
    reads, writes = _locations(held)
    return Placement(
        tenant=held.tenant,
        phase=held.phase,
        source=held.source,
        target=held.target,
        key_state=held.key_state,
        epoch=held.epoch,
        reads=reads,
        writes=writes,
        deletes="allow",
        writes_from=held.writes_from,
        expires_at=now + ttl_seconds,
    )


def _locations(record: PlacementRecord) -> tuple[tuple[Location, ...], tuple[Location, ...]]:
    match record.phase:
        case "shared":
            return (record.source,), (record.source,)
        case "paused":
            return (record.source,), ()
        case "dedicated":
            assert record.target is not None, "dedicated without a target"
            opened = record.writes_from is not None
            return (record.target,), (record.target,) if opened else ()
        case "revoked":
            return (), ()
        case never:
            assert_never(never)


def next_pause_epoch(record: PlacementRecord, now: float) -> int:
    """The epoch to propose for a pause: above any that was ever proposed, and above the return from it."""
    epoch = end_pause(record, now).epoch
    return epoch + 1 if record.proposed_epoch <= epoch else record.proposed_epoch + 2


def pause(record: PlacementRecord, now: float, seconds: float) -> PlacementRecord:
    """Stop the writers until `now + seconds` at the latest. Raises ConflictError unless it is `shared`.

    A pause that was proposed and hasn't begun has its epoch from there.
    """
    held = in_effect(record, now)
    if held.phase != "shared":
        raise ConflictError(f"{record.tenant} is {held.phase}: only shared can be paused")
    epoch = max(held.epoch + 1, held.proposed_epoch)
    return replace(held, phase="paused", epoch=epoch, pause_ends_at=now + seconds)


def return_epoch(pause_epoch: int) -> int:
    """The epoch of the return from a pause: fixed when the pause is proposed, so that returning needs no target."""
    return pause_epoch + 1


def end_pause(record: PlacementRecord, now: float) -> PlacementRecord:
    """Let the writers go on where they were. A pause that has ended already, or none, changes nothing more."""
    held = in_effect(record, now)
    return _returned(held) if held.phase == "paused" else held


def dedicate(record: PlacementRecord, now: float, pause_epoch: int) -> PlacementRecord:
    """Publish the target for reading. Only out of the very pause in which the last pass was made, and in its time.

    Nobody writes before `open_writes`, and nothing undoes it any more: it is its own proposal, and final. Its epoch is
    another one than that of the pause's return, so that no two records ever have the same.
    Raises ConflictError where the pause is over: the writers may have gone on since.
    """
    held = in_effect(record, now)
    if held.phase != "paused" or held.epoch != pause_epoch:
        raise ConflictError(f"{record.tenant}'s pause {pause_epoch} is over")
    assert held.target is not None, "dedicated without a target"
    epoch = return_epoch(pause_epoch) + 1
    return replace(
        held, phase="dedicated", epoch=epoch, proposed_epoch=epoch, pause_ends_at=None, writes_from=None
    )


def open_writes(record: PlacementRecord, now: float, ttl_seconds: float) -> PlacementRecord:
    """Let the writers write to the target one time to live from `now` on. Opened already, it stays as it is.

    `now` is read after the commit of `dedicated`: whoever still looks at the source was told so before that.
    Raises ConflictError unless it is `dedicated`.
    """
    if record.phase != "dedicated":
        raise ConflictError(f"{record.tenant} is {record.phase}: only dedicated opens the target")
    return record if record.writes_from is not None else replace(record, writes_from=now + ttl_seconds)


def revoke(record: PlacementRecord, now: float, job_id: str, *, takes_over: bool = False) -> PlacementRecord:
    """Tell everybody that nothing may be read or written, from the next record on. A pause ends by it.

    Revoked already, it stays revoked by whichever job did it, unless this one takes over, as a later one does: then
    only this one's reinstatement lifts it. Its epoch is above any that was ever proposed.
    """
    if record.phase == "revoked":
        return replace(record, revoked_by=job_id) if takes_over else record
    held = end_pause(record, now)
    epoch = max(held.epoch, held.proposed_epoch) + 1
    return replace(
        held,
        phase="revoked",
        epoch=epoch,
        proposed_epoch=epoch,
        revoked_from=held.phase,
        revoked_by=job_id,
    )


def reinstate(record: PlacementRecord, job_id: str) -> PlacementRecord:
    """Go on where the tenant was when that job revoked it. Raises ConflictError where another job did, or none."""
    if record.phase != "revoked" or record.revoked_by != job_id or record.revoked_from is None:
        raise ConflictError(f"{record.tenant} isn't revoked by {job_id}")
    epoch = record.epoch + 1
    return replace(
        record,
        phase=record.revoked_from,
        epoch=epoch,
        proposed_epoch=epoch,
        revoked_from=None,
        revoked_by=None,
    )


def rekey(record: PlacementRecord, key_ref: str) -> PlacementRecord:
    """Lead a dedicated tenant's placement to another key of its own, under a new epoch; locations and phase stay.

    Raises ConflictError unless it is `dedicated` and open for writing.
    """
    if record.phase != "dedicated" or record.writes_from is None:
        raise ConflictError(f"{record.tenant} is {record.phase}: only a dedicated one's key is rotated")
    if record.key_ref == key_ref:
        return record
    epoch = max(record.epoch, record.proposed_epoch) + 1
    return replace(record, key_ref=key_ref, key_state="active", epoch=epoch, proposed_epoch=epoch)


def _returned(record: PlacementRecord) -> PlacementRecord:
    return replace(record, phase="shared", epoch=return_epoch(record.epoch), pause_ends_at=None)


_PLACEHOLDER = re.compile(r"\{(tenant|tenant_hash)\}")


@dataclass(frozen=True, slots=True)
class LocationPattern:
    """Where a tenant's data are or go, by its name: `s3://shared/tenants/{tenant}/`."""

    text: str

    @classmethod
    def parse(cls, text: str, field_name: str) -> LocationPattern:
        """Check a pattern. Raises RefusedError naming `field_name`.

        It holds one of `{tenant}` and `{tenant_hash}`, so that no two tenants share a location, and what
        it gives is a location.
        """
        if not text:
            raise RefusedError(field_name, "is required: without it a job could name any location")
        if not _PLACEHOLDER.search(text):
            raise RefusedError(field_name, "holds neither {tenant} nor {tenant_hash}")
        if set("{}") & set(_PLACEHOLDER.sub("", text)):
            raise RefusedError(field_name, "knows only {tenant} and {tenant_hash}")
        pattern = cls(text)
        Location.parse(pattern._fill("tenant"), field_name)
        return pattern

    def locate(self, tenant: str, field_name: str) -> Location:
        """The tenant's location. Raises RefusedError where its name makes none (a bucket's name, say)."""
        if tenant in {".", ".."}:
            # Keys are opaque to us, but somebody between here and there may resolve `tenants/../`.
            raise RefusedError("tenant", f"{tenant!r} stands for another place in many stores")
        return Location.parse(self._fill(tenant), field_name)

    def _fill(self, tenant: str) -> str:
        tenant_hash = hashlib.sha256(tenant.encode()).hexdigest()[:16]
        values = {"tenant": tenant, "tenant_hash": tenant_hash}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def admitted_locations(
    tenant: str,
    source: str,
    target: str | None,
    source_pattern: LocationPattern,
    target_pattern: LocationPattern,
) -> tuple[Location, Location]:
    """Source and target of a migration that may be admitted.

    Raises RefusedError naming `source` or `target` where one isn't what the patterns give for the tenant,
    or where the two overlap.
    """
    wanted_source = Location.parse(source, "source")
    allowed_source = source_pattern.locate(tenant, "source")
    if wanted_source != allowed_source:
        raise RefusedError("source", f"the settings give {allowed_source} for this tenant")
    allowed_target = target_pattern.locate(tenant, "target")
    wanted_target = allowed_target if target is None else Location.parse(target, "target")
    if wanted_source.overlaps(wanted_target):
        raise RefusedError("target", f"{wanted_target} and the source overlap")
    if wanted_target != allowed_target:
        raise RefusedError("target", f"the settings give {allowed_target} for this tenant")
    return wanted_source, wanted_target
