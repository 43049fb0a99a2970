"""What becomes of an object's row: pure decisions, for every adapter of the ledger.

A row changes when a page of a listing covers its key, and when a worker reports an outcome.
`same`: the listing names the very version that the row names, down to its time of modification: the same bytes
put again with other metadata may keep their ETag. Only a row that was listed without such a time is also the same
as one with it. `other`: another version of the key; to a verified row also the same one, where it was put so shortly
before the pass began that saw it last, or since, that another put within the same second would look no different.

| state | listed, same | listed, other | not listed |
|---|---|---|---|
| no row | - | listed, to be carried | - |
| listed | as it is: its segment carries it | listed anew; the former version joins `planned_before` | vanished |
| verified | as it is, `modified` noted | listed anew; the copy stays recorded, to be overwritten If-Match | vanished |
| excluded | listed again: the reason may be gone | listed anew; joins `planned_before` | vanished |
| stale | listed again: another version for a while, or other terms | listed anew; joins `planned_before` | vanished |
| failed | listed again, its attempts kept | listed anew; joins `planned_before` | vanished |
| vanished | listed again; the copy, as recorded, may or may not stand | listed anew; joins | as it is |
| dropped | listed again, without a copy | listed anew, without a copy | in a pause: vanished; else as it is |
| retiring, deleted, remaining | refused: a dedicated tenant's source is listed no more | refused | refused |

`verified` rows become `stale` also all at once, where a job begins a pass under other terms than those that they
were verified under (ledger.sql.terms); that pass lists them again.

`planned_before` takes every former version whose outcome isn't known for certain, and is emptied when one is verified:
all writes are conditional, so an earlier one that is still under way can't replace the verified copy. What was dropped
stays among them, the latest DROPPED_KNOWN_MAX. Nothing stood under the key then, and no earlier write of rekeyd's is
under way that could still put something there, since all of these hold:

- a row vanishes only at the end of a pass, and whoever begins one waits until no segment is open (jobs.passes);
- a segment is done only by a claim in force, and is claimed only once every earlier claim on it was given up by
  its holder or has run out by its lease, also where a hold, an end or a cancellation of its job fenced it out;
- no call is sent that its claim doesn't outlive.

But something between us and the store may repeat a write that had been answered, and what comes back so is ours. What
a store executes after the deadline of its request is beyond them: docs/protocol.md says so. Of a key that is there
nothing is ever left out of `planned_before`. A row with more than PLANNED_BEFORE_MAX of them becomes `failed` and
gets no further version planned until a person resumes the job.

| stage | rows it works on | outcomes it may report |
|---|---|---|
| carry | listed | listed (in vain), stale, verified, excluded, failed, dropped |
| sweep | vanished | listed (in vain: stays vanished), stale (it is there after all), dropped, failed |
| retire | verified, retiring | listed (in vain: stays), deleted, remaining |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import NULL_VERSION, CarryState, ObjectVersion, parse_time
from rekeyd.ledger.port import (
    SEGMENT_BYTES_MAX,
    SEGMENT_OBJECTS_MAX,
    ObjectOutcome,
    ObjectRow,
    SegmentStage,
)

PLANNED_BEFORE_MAX = 32
"""So many versions of a key may have an unknown outcome; with more of them the object is `failed`."""

DROPPED_KNOWN_MAX = PLANNED_BEFORE_MAX // 2
"""So many versions of a dropped key are known for ours, should one come back; an older one would be a conflict."""

RECENT_SECONDS = 2.0
"""S3 lists times of whole seconds (docs.aws.amazon.com, "ListObjectsV2": LastModified ends in .000Z), so what was read
when the second was over is the last that was put in it. The other second is for a store's clock that is behind."""

WORKED_ON: dict[SegmentStage, tuple[CarryState, ...]] = {
    "carry": ("listed",),
    "sweep": ("vanished",),
    "retire": ("verified", "retiring"),
}
"""The states of rows that each stage has still to do."""

_REPORTED: dict[SegmentStage, frozenset[str]] = {
    "carry": frozenset({"listed", "stale", "verified", "excluded", "failed", "dropped"}),
    "sweep": frozenset({"listed", "stale", "dropped", "failed"}),
    "retire": frozenset({"listed", "deleted", "remaining"}),
}

_RETIRED: tuple[CarryState, ...] = ("retiring", "deleted", "remaining")
_WITHOUT_COPY: tuple[CarryState, ...] = ("dropped",)
_TOO_MANY_PLANNED = (
    f"what became of more than {PLANNED_BEFORE_MAX} versions isn't known: look at the target, then resume"
)


@dataclass(frozen=True, slots=True)
class Row:
    """An object's row with what only the ledger needs."""

    object: ObjectRow
    segment_id: int | None
    """The segment that has it to do; None where nothing waits to be done."""
    reason: str = ""
    evidence: str = ""
    seen_pass: int = 0
    """The latest pass that listed it, or settled that it is missing."""
    request_ids: tuple[str, ...] = ()
    """Of the requests that deleted its source."""

    @property
    def state(self) -> CarryState:
        return self.object.state

    @property
    def size_bytes(self) -> int:
        """Those of the whole history."""
        return self.object.source.history_bytes

    @property
    def weight(self) -> Weight:
        return Weight(len(self.object.source.older) + 1, self.size_bytes)


@dataclass(frozen=True, slots=True)
class Weight:
    """What an object takes in a segment: the versions of its history, and their bytes."""

    versions: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """A row's next form, and the kind of segment that it has to join: None where it joins none."""

    row: Row
    joins: Literal["carry", "sweep"] | None


def first_listed(version: ObjectVersion) -> Move:
    """A key that no row names yet."""
    return Move(Row(ObjectRow(version, "listed", 0, None, (), None), None), "carry")


def listed(row: Row, version: ObjectVersion, seen_from: float | None = None) -> Move | None:
    """What a listing that names `version` makes of the row; None where it changes nothing.

    `seen_from` is when the pass began that saw the row last, in seconds since 1970; None where that isn't known.
    Raises ConflictError for a row whose source is being, or was, retired.
    """
    _refuse_retired(row)
    former = row.object
    if _is_same(former.source, version):
        recent = former.state == "verified" and _is_recent(version, seen_from)
        if former.state == "verified" and former.source != version and not recent:
            return Move(replace(row, object=replace(former, source=version)), None)
        if former.state in ("listed", "verified") and not recent:
            return None
        attempts, planned = former.attempts, former.planned_before
    else:
        attempts, planned = 0, _planned_with(former)
    gone = former.state in _WITHOUT_COPY
    target, copies, made_by = (None, (), ()) if gone else (former.target, former.copies, former.copy_requests)
    if len(planned) > PLANNED_BEFORE_MAX and not (former.state == "failed" and former.attempts == 0):
        attempts = max(former.attempts, 1)
        stuck = ObjectRow(version, "failed", attempts, target, planned, None, copies, made_by)
        return Move(Row(stuck, None, _TOO_MANY_PLANNED), None)
    again = ObjectRow(version, "listed", attempts, target, planned, None, copies, made_by)
    return Move(Row(again, None), "carry")


def missing(row: Row, *, paused: bool) -> Move | None:
    """What a listing that covers the row's key without naming it makes of the row; None for nothing.

    In a pause, what was dropped is swept once more: something between us and the store may have repeated a write that
    had been answered, after nothing stood under its key any more.
    Raises ConflictError for a row whose source is being, or was, retired.
    """
    _refuse_retired(row)
    if row.state == "vanished" or (row.state == "dropped" and not paused):
        return None
    vanished = replace(row.object, state="vanished", attempts=0)
    return Move(replace(row, object=vanished, segment_id=None, reason=""), "sweep")


def recorded(stage: SegmentStage, row: Row, outcome: ObjectOutcome) -> Row | None:
    """What a worker's outcome makes of a row of its segment; None where it is passed over."""
    former = row.object
    if former.source != outcome.source or former.state not in WORKED_ON[stage]:
        return None
    target = outcome.target or former.target
    copies = former.copies if outcome.copies is None else outcome.copies
    crc64nvme = former.crc64nvme if outcome.crc64nvme is None else outcome.crc64nvme
    made_by = former.copy_requests if outcome.copy_requests is None else outcome.copy_requests
    if outcome.state == "listed":
        attempts = former.attempts + 1
        tried = replace(former, attempts=attempts, target=target, crc64nvme=crc64nvme, copies=copies)
        return replace(row, object=replace(tried, copy_requests=made_by), reason=outcome.reason)
    done = ObjectRow(
        source=former.source,
        state=outcome.state,
        attempts=former.attempts + (outcome.state == "failed"),
        target=None if outcome.state == "dropped" else target,
        planned_before=_planned_after(outcome, former),
        crc64nvme=crc64nvme,
        copies=() if outcome.state == "dropped" else copies,
        copy_requests=() if outcome.state == "dropped" else made_by,
    )
    evidence = outcome.evidence or row.evidence
    return Row(done, None, outcome.reason, evidence, request_ids=outcome.request_ids)


def _planned_after(outcome: ObjectOutcome, former: ObjectRow) -> tuple[ObjectVersion, ...]:
    """`planned_before` once the outcome of a version is recorded."""
    if outcome.state == "verified":
        return ()
    if outcome.state != "dropped":
        return former.planned_before
    others = [version for version in former.planned_before if version != former.source]
    return (*others, former.source)[-DROPPED_KNOWN_MAX:]


def check_outcomes(stage: SegmentStage, outcomes: Iterable[ObjectOutcome]) -> None:
    """Raises ValueError for an outcome that the stage can't have: a programming error."""
    for outcome in outcomes:
        if outcome.state not in _REPORTED[stage]:
            raise ValueError(f"{stage} can't end in {outcome.state}")
        if outcome.state in ("excluded", "failed", "remaining") and not outcome.reason:
            raise ValueError(f"{outcome.state} without a reason")
        if outcome.state == "verified" and outcome.target is None:
            raise ValueError("verified without the copy that was")


def cut(weights: Sequence[Weight], filling: Weight | None) -> tuple[int, list[range]]:
    """Divide objects of these weights, in order, among segments.

    `filling` is what a segment has that takes further objects. Gives how many join it, and the spans of those that
    make new ones. No segment has more than SEGMENT_OBJECTS_MAX versions, nor more than SEGMENT_BYTES_MAX bytes,
    unless it has one object: the history of a key stays together.
    """
    joining = 0 if filling is None else _fitting(weights, 0, filling)
    spans, first = [], joining
    while first < len(weights):
        end = first + max(1, _fitting(weights, first, Weight(0, 0)))
        spans.append(range(first, end))
        first = end
    return joining, spans


def _fitting(weights: Sequence[Weight], first: int, filling: Weight) -> int:
    versions, size_bytes = filling.versions, filling.size_bytes
    for end in range(first, len(weights)):
        versions += weights[end].versions
        size_bytes += weights[end].size_bytes
        if versions > SEGMENT_OBJECTS_MAX or size_bytes > SEGMENT_BYTES_MAX:
            return end - first
    return len(weights) - first


def _planned_with(former: ObjectRow) -> tuple[ObjectVersion, ...]:
    """`planned_before` once another version takes the place of this one."""
    settled = former.state == "verified"
    never_planned = former.state == "failed" and len(former.planned_before) > PLANNED_BEFORE_MAX
    if settled or never_planned or former.source in former.planned_before:
        return former.planned_before
    return (*former.planned_before, former.source)


def _is_same(recorded: ObjectVersion, named: ObjectVersion) -> bool:
    """Whether a listing names the recorded version. A row without a time of modification says nothing of it."""
    return recorded == named or (recorded.modified is None and recorded == replace(named, modified=None))


def _is_recent(named: ObjectVersion, seen_from: float | None) -> bool:
    """Whether another version than the one that was read may be named by the same words.

    Not where it has an id of its own, nor where times are finer than seconds. A time that can't be read, or none, isn't
    recent: it would be so in every pass, and all would be carried again and again.
    """
    if seen_from is None or named.modified is None or named.version_id not in (None, NULL_VERSION):
        return False
    try:
        at = parse_time(named.modified)
    except ValueError:
        return False
    return not at.microsecond and at.timestamp() >= seen_from - RECENT_SECONDS


def _refuse_retired(row: Row) -> None:
    if row.state in _RETIRED:
        raise ConflictError(f"{row.object.source.key!r} is {row.state}: its source is listed no more")
