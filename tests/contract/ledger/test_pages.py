"""ObjectLedger: passes and pages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Counts
from rekeyd.ledger.port import (
    SEGMENT_BYTES_MAX,
    SEGMENT_OBJECTS_MAX,
    JobClaim,
    Ledger,
    ObjectOutcome,
    ObjectRow,
)
from rekeyd.ledger.rows import PLANNED_BEFORE_MAX
from tests.contract.ledger.stories import (
    LONG,
    begin_pause,
    carry,
    copy_of,
    dedicated,
    list_all,
    row_of,
    running,
    segment,
    version,
    versions,
    work,
)


async def test_there_is_no_pass_before_the_first(ledger: Ledger) -> None:
    assert await ledger.current_pass(await running(ledger)) is None


async def test_passes_are_numbered_from_1(ledger: Ledger) -> None:
    claim = await running(ledger)

    first = await ledger.begin_pass(claim, None)
    assert (first.number, first.pause_epoch, first.resume_after, first.listed) == (1, None, None, False)
    assert (first.changed_objects, first.changed_bytes, first.open_segments) == (0, 0, 0)
    assert await ledger.current_pass(claim) == first
    assert await ledger.begin_pass(claim, None) == first, "it has no page yet"
    await ledger.record_page(claim, 1, [], None, None)
    assert (await ledger.begin_pass(claim, None)).number == 2


async def test_a_pass_of_the_same_pause_is_continued(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    epoch = (await begin_pause(ledger, claim)).epoch

    begun = await ledger.begin_pass(claim, epoch)
    page = versions(1)
    entered = await ledger.record_page(claim, begun.number, page, None, page[0].key)

    assert begun.pause_epoch == epoch
    assert await ledger.begin_pass(claim, epoch) == entered
    assert (await ledger.begin_pass(claim, epoch + 2)).number == begun.number + 1


async def test_new_objects_are_listed_and_wait_to_be_carried(ledger: Ledger) -> None:
    claim = await running(ledger)

    state = await list_all(ledger, claim, [version("a", size_bytes=1), version("b", size_bytes=2)])

    assert (state.listed, state.resume_after) == (True, None)
    assert (state.changed_objects, state.changed_bytes, state.open_segments) == (2, 3, 1)
    part = await segment(ledger)
    assert part.stage == "carry"
    assert await ledger.segment_rows(part) == [
        ObjectRow(version("a", size_bytes=1), "listed", 0, None, (), None),
        ObjectRow(version("b", size_bytes=2), "listed", 0, None, (), None),
    ]
    assert await ledger.counts(claim) == Counts(objects_listed=2, bytes_listed=3)
    assert (await ledger.job("job-1")).counts == await ledger.counts(claim)


async def test_an_unchanged_verified_object_is_only_seen(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(3))
    await carry(ledger)

    state = await list_all(ledger, claim, versions(3))

    assert (state.changed_objects, state.changed_bytes, state.open_segments) == (0, 0, 0)
    assert await ledger.claim_segment("worker-1", LONG) is None
    assert (await ledger.counts(claim)).objects_verified == 3


async def test_another_version_of_a_verified_object_is_carried_over_its_copy(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)

    await list_all(ledger, claim, [version("a", "v2", 30)])

    row = await row_of(ledger, "a")
    assert (row.source, row.state, row.attempts) == (version("a", "v2", 30), "listed", 0)
    assert row.target == copy_of(version("a"))
    assert row.planned_before == ()
    assert await ledger.counts(claim) == Counts(objects_listed=1, bytes_listed=30)


async def in_vain(ledger: Ledger) -> None:
    await work(ledger, lambda row: ObjectOutcome(row.source, "failed", "x"))


async def test_the_same_bytes_put_again_with_other_metadata_are_carried_again(ledger: Ledger) -> None:
    """The ETag may be an MD5 of the bytes: only the time of modification tells."""
    claim = await running(ledger)
    first = replace(version("a"), modified="2026-01-01T00:00:00.000Z")
    await list_all(ledger, claim, [first])
    assert (await row_of(ledger, "a")).source == first
    await carry(ledger)
    assert (await list_all(ledger, claim, [first])).changed_objects == 0
    again = replace(first, modified="2026-01-01T00:00:01.000Z")

    state = await list_all(ledger, claim, [again])

    assert (state.changed_objects, state.changed_bytes) == (1, 10)
    row = await row_of(ledger, "a")
    assert (row.source, row.state, row.target) == (again, "listed", copy_of(first))
    assert (await ledger.counts(claim)).objects_verified == 0
    latest = replace(first, modified="2026-01-01T00:00:02.000Z")
    await list_all(ledger, claim, [latest])
    (row,) = await carry(ledger)
    assert (row.source, row.planned_before) == (latest, (again,))


async def test_a_time_of_modification_that_was_missing_is_noted_and_nothing_carried(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)

    state = await list_all(ledger, claim, [replace(version("a"), modified="1")])

    assert (state.changed_objects, state.changed_bytes, state.open_segments) == (0, 0, 0)
    assert (await ledger.counts(claim)).objects_verified == 1
    for modified in ("2", None):
        state = await list_all(ledger, claim, [replace(version("a"), modified=modified)])
        assert state.changed_objects == 1, "only what was missing before is no change"
        await carry(ledger)


async def untried(ledger: Ledger) -> None:
    """What is listed stays as it is."""


async def excluded(ledger: Ledger) -> None:
    await work(ledger, lambda row: ObjectOutcome(row.source, "excluded", "x"))


async def stale(ledger: Ledger) -> None:
    await work(ledger, lambda row: ObjectOutcome(row.source, "stale"))


@pytest.mark.parametrize("outcome", [untried, in_vain, excluded, stale])
async def test_a_former_version_with_an_unknown_outcome_joins_planned_before(
    ledger: Ledger, outcome: object
) -> None:
    claim = await running(ledger)
    for number in range(1, 4):
        await list_all(ledger, claim, [version("a", f"v{number}")])
        await outcome(ledger)  # type: ignore[operator]
    await list_all(ledger, claim, [version("a", "v4")])

    row = await row_of(ledger, "a")

    assert (row.source, row.state, row.attempts) == (version("a", "v4"), "listed", 0)
    assert row.planned_before == tuple(version("a", f"v{number}") for number in range(1, 4))
    await carry(ledger)
    await list_all(ledger, claim, [version("a", "v5")])
    assert (await row_of(ledger, "a")).planned_before == ()


@pytest.mark.parametrize("outcome", [in_vain, excluded, stale])
async def test_what_is_not_verified_is_listed_again(ledger: Ledger, outcome: object) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await outcome(ledger)  # type: ignore[operator]
    assert await ledger.claim_segment("worker-1", LONG) is None

    state = await list_all(ledger, claim, [version("a")])

    assert state.changed_objects == 1
    row = await row_of(ledger, "a")
    assert (row.state, row.planned_before) == ("listed", ())


async def test_an_object_with_too_many_unknown_outcomes_fails_until_a_person_resumes(ledger: Ledger) -> None:
    claim = await running(ledger)
    for number in range(PLANNED_BEFORE_MAX + 5):
        await list_all(ledger, claim, [version("a", f"v{number}")])
    ((key, reason),) = await ledger.failed_objects(claim, 10)
    assert key == version("a").key
    assert str(PLANNED_BEFORE_MAX) in reason
    await ledger.hold_job(claim, "unverified_objects", "x", None)
    await ledger.resume_job("job-1", "operator")
    claim = await ledger.claim_job("daemon-1", LONG)  # type: ignore[assignment]

    await list_all(ledger, claim, [version("a", "latest")])

    row = await row_of(ledger, "a")
    assert row.planned_before == tuple(version("a", f"v{number}") for number in range(PLANNED_BEFORE_MAX + 1))


async def vanish(ledger: Ledger, claim: JobClaim) -> None:
    await list_all(ledger, claim, [version("kept")])


@pytest.mark.parametrize("outcome", [untried, in_vain, excluded, stale, carry])
async def test_what_a_complete_listing_misses_has_vanished_and_is_swept(
    ledger: Ledger, outcome: object
) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("gone"), version("kept")])
    await outcome(ledger)  # type: ignore[operator]

    await vanish(ledger, claim)

    sweeps = []
    while (part := await ledger.claim_segment("worker-1", LONG)) is not None:
        rows = await ledger.segment_rows(part)
        if part.stage == "sweep":
            sweeps += [(row.source, row.state) for row in rows]
        else:
            assert [row.source for row in rows if row.source != version("kept")] == []
    assert sweeps == [(version("gone"), "vanished")]
    assert (await ledger.counts(claim)).objects_listed == 1


async def test_a_vanished_objects_copy_is_known_to_its_sweeper(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("gone")])
    await carry(ledger)
    await list_all(ledger, claim, [])

    (row,) = await ledger.segment_rows(await segment(ledger))

    assert (row.state, row.target) == ("vanished", copy_of(version("gone")))


async def test_nothing_is_swept_before_the_listing_is_complete(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(4))
    await carry(ledger)
    begun = await ledger.begin_pass(claim, None)

    state = await ledger.record_page(claim, begun.number, [], None, "page 2")

    assert (state.listed, state.resume_after) == (False, "page 2")
    assert await ledger.claim_segment("worker-1", LONG) is None
    assert (await ledger.counts(claim)).objects_listed == 4
    await ledger.record_page(claim, begun.number, [versions(4)[3]], "page 2", None)
    assert [row.source for row in await work(ledger, _dropped, "sweep")] == versions(4)[:3]


async def test_a_listing_that_broke_off_sweeps_nothing_that_a_later_one_finds(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(4))
    await carry(ledger)
    begun = await ledger.begin_pass(claim, None)
    await ledger.record_page(claim, begun.number, [], None, "page 2")

    await list_all(ledger, claim, versions(4)[:3], pause_epoch=7)

    assert [row.source for row in await work(ledger, _dropped, "sweep")] == [versions(4)[3]]


def _dropped(row: ObjectRow) -> ObjectOutcome:
    return ObjectOutcome(row.source, "dropped")


@pytest.mark.parametrize("swept", [False, True])
async def test_a_vanished_object_that_is_back_is_carried(ledger: Ledger, *, swept: bool) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, [version("a")])
    await carry(ledger)
    await list_all(ledger, claim, [])
    if swept:
        await work(ledger, _dropped, "sweep")

    await list_all(ledger, claim, [version("a")])

    rows = []
    while (part := await ledger.claim_segment("worker-1", LONG)) is not None:
        rows += [(part.stage, row.state, row.target) for row in await ledger.segment_rows(part)]
    assert rows == [("carry", "listed", None if swept else copy_of(version("a")))]


async def test_a_page_that_was_entered_already_changes_nothing(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.begin_pass(claim, None)
    page, rest = versions(4)[:2], versions(4)[2:]

    first = await ledger.record_page(claim, 1, page, None, page[-1].key)
    assert await ledger.record_page(claim, 1, page, None, page[-1].key) == first
    assert await ledger.record_page(claim, 1, [], None, None) == first
    last = await ledger.record_page(claim, 1, rest, page[-1].key, None)
    assert await ledger.record_page(claim, 1, rest, page[-1].key, None) == last
    assert (await ledger.counts(claim)).objects_listed == 4


@pytest.mark.parametrize(("number", "after"), [(1, "page 2"), (2, None), (0, None)])
async def test_a_page_that_does_not_follow_is_a_conflict(
    ledger: Ledger, number: int, after: str | None
) -> None:
    claim = await running(ledger)
    await ledger.begin_pass(claim, None)

    with pytest.raises(ConflictError):
        await ledger.record_page(claim, number, versions(1), after, None)
    assert await ledger.counts(claim) == Counts()


async def test_a_page_must_lead_on(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.begin_pass(claim, None)
    await ledger.record_page(claim, 1, versions(1), None, "page 2")

    with pytest.raises(ConflictError):
        await ledger.record_page(claim, 1, [], "page 2", "page 2")
    with pytest.raises(ConflictError):
        await ledger.record_page(claim, 1, [], "page 3", None)


async def test_nothing_follows_from_the_order_of_keys(ledger: Ledger) -> None:
    """SeaweedFS walks directories: `a/x` before `a-b`."""
    claim = await running(ledger)
    names = ["b", "a/x", "a-b", "c", "a"]
    for number in (1, 2):
        await ledger.begin_pass(claim, None)
        await ledger.record_page(claim, number, [version(name) for name in names[:3]], None, "zz")
        state = await ledger.record_page(claim, number, [version(name) for name in names[3:]], "zz", None)
        assert state.changed_objects == (5 if number == 1 else 0)
        await carry(ledger)
    assert (await ledger.counts(claim)).objects_verified == 5


async def test_a_key_that_two_pages_name_is_one_object(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.begin_pass(claim, None)
    await ledger.record_page(claim, 1, [version("a")], None, "page 2")
    await ledger.record_page(claim, 1, [version("a", "v2")], "page 2", None)

    assert (await ledger.counts(claim)).objects_listed == 1
    assert (await row_of(ledger, "a")).planned_before == (version("a"),)


async def test_a_listed_pass_takes_no_further_page(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(1))
    with pytest.raises(ConflictError):
        await ledger.record_page(claim, 1, [], "page 2", None)


async def test_segments_are_bounded_in_objects(ledger: Ledger) -> None:
    claim = await running(ledger)
    state = await list_all(ledger, claim, versions(2 * SEGMENT_OBJECTS_MAX + 1))

    sizes = []
    while (part := await ledger.claim_segment("worker-1", LONG)) is not None:
        sizes.append(len(await ledger.segment_rows(part)))
    assert sizes == [SEGMENT_OBJECTS_MAX, SEGMENT_OBJECTS_MAX, 1]
    assert state.open_segments == 3


async def test_segments_are_bounded_in_bytes_unless_one_object_has_more(ledger: Ledger) -> None:
    claim = await running(ledger)
    halves = [version(f"a{number}", size_bytes=SEGMENT_BYTES_MAX // 2) for number in range(3)]
    await list_all(ledger, claim, [*halves, version("b", size_bytes=2 * SEGMENT_BYTES_MAX), version("c")])

    parts = []
    while (part := await ledger.claim_segment("worker-1", LONG)) is not None:
        parts.append([row.source.key[-2:] for row in await ledger.segment_rows(part)])
    assert parts == [["a0", "a1"], ["a2"], ["/b"], ["/c"]]


async def test_small_pages_fill_a_segment_until_somebody_claims_it(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.begin_pass(claim, None)
    after, state = None, None
    for each in versions(5):
        state = await ledger.record_page(claim, 1, [each], after, each.key)
        after = each.key
    assert state is not None
    assert state.open_segments == 1
    await segment(ledger)

    state = await ledger.record_page(claim, 1, [version("z")], after, None)

    assert state.open_segments == 2


KEYS = [
    "/lead",
    "a//b",
    "a/",
    "./x",
    "%2F",
    "+",
    "\N{SNOWMAN}",
    "\U0001f40d",
    "\ufffd",
    "\x01\x7f",
    "\x00",
    " ",
]


async def test_keys_are_opaque_and_rows_come_in_the_order_of_their_bytes(ledger: Ledger) -> None:
    claim = await running(ledger)
    found = sorted((version(key) for key in KEYS), key=lambda each: each.key.encode())

    await list_all(ledger, claim, found[::-1])

    assert [row.source for row in await ledger.segment_rows(await segment(ledger))] == found


async def test_a_dedicated_tenants_source_is_listed_no_more(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(2))

    with pytest.raises(ConflictError):
        await ledger.begin_pass(claim, None)
    with pytest.raises(ConflictError):
        await ledger.record_page(claim, 2, [], None, None)


async def test_a_resubmitted_job_goes_on_with_the_same_rows(ledger: Ledger) -> None:
    claim = await running(ledger)
    await list_all(ledger, claim, versions(2))
    await carry(ledger)
    await ledger.release_job(claim)
    await ledger.cancel_job("job-1", "operator")

    again = await running(ledger, "job-2")

    assert (await ledger.counts(again)).objects_verified == 2
    state = await list_all(ledger, again, versions(2))
    assert (state.number, state.changed_objects) == (2, 0)
