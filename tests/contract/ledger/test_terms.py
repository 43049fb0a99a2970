"""What `verified` means outlives a job only as far as the next job means the same by it."""

from __future__ import annotations

import pytest

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.job import Counts
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome
from tests.contract.ledger.stories import (
    KEY,
    LONG,
    admit,
    begin_pause,
    bodies,
    carry,
    claimed,
    copy_of,
    dedicated,
    dedicating,
    list_all,
    running,
    segment,
    verified,
    versions,
)


async def job(ledger: Ledger, job_id: str, key: str = "acme", verify: str = "checksums") -> JobClaim:
    """A job with these terms, claimed; the tenant's former job is cancelled, its claims given up before."""
    for former in await ledger.jobs(tenant="acme", state="running"):
        await ledger.cancel_job(former.id, "operator")
    await admit(ledger, job_id, key=key, options={"verify": verify})
    return await claimed(ledger)


async def all_verified(ledger: Ledger, claim: JobClaim, count: int = 3) -> None:
    await list_all(ledger, claim, versions(count))
    await carry(ledger)
    assert (await ledger.counts(claim)).objects_verified == count


@pytest.mark.parametrize(
    ("former", "latter"),
    [
        (("acme", "checksums"), ("other", "checksums")),
        (("acme", "read_back"), ("other", "read_back")),
        (("acme", "checksums"), ("acme", "read_back")),
    ],
)
async def test_what_was_verified_under_other_terms_is_carried_again(
    ledger: Ledger, former: tuple[str, str], latter: tuple[str, str]
) -> None:
    first = await job(ledger, "job-1", *former)
    await all_verified(ledger, first)
    await ledger.release_job(first)
    again = await job(ledger, "job-2", *latter)
    left = await ledger.current_pass(again)
    assert left is not None
    assert not left.terms_hold

    begun = await ledger.begin_pass(again, None)

    assert begun.terms_hold
    assert await ledger.counts(again) == Counts(objects_listed=3, bytes_listed=30)
    state = await ledger.record_page(again, begun.number, versions(3), None, None)
    assert (state.changed_objects, state.changed_bytes, state.open_segments) == (3, 30, 1)
    rows = await carry(ledger)
    assert [(row.source, row.state, row.target, row.planned_before) for row in rows] == [
        (each, "listed", copy_of(each), ()) for each in versions(3)
    ]
    assert (await ledger.counts(again)).objects_verified == 3
    (changed,) = [body for body in await bodies(ledger) if body["action"] == "terms.changed"]
    assert (changed["job"], changed["stale_objects"], changed["stale_bytes"]) == ("job-2", 3, 30)
    assert (changed["former_key"], changed["former_verify"]) == (KEY + former[0], former[1])
    assert (changed["key"], changed["verify"]) == (KEY + latter[0], latter[1])


async def test_what_was_verified_by_more_than_is_asked_for_stays_so(ledger: Ledger) -> None:
    first = await job(ledger, "job-1", verify="read_back")
    await all_verified(ledger, first)
    await ledger.release_job(first)

    again = await job(ledger, "job-2", verify="checksums")

    assert (await list_all(ledger, again, versions(3))).changed_objects == 0
    assert (await ledger.counts(again)).objects_verified == 3
    await ledger.release_job(again)
    # From then on a row may be verified by checksums alone, and none tells which.
    last = await job(ledger, "job-3", verify="read_back")
    assert (await list_all(ledger, last, versions(3))).changed_objects == 3


async def test_the_same_terms_change_nothing(ledger: Ledger) -> None:
    first = await job(ledger, "job-1")
    await all_verified(ledger, first)
    await ledger.release_job(first)

    again = await job(ledger, "job-2")

    state = await ledger.current_pass(again)
    assert state is not None
    assert state.terms_hold
    assert (await list_all(ledger, again, versions(3))).changed_objects == 0
    assert "terms.changed" not in [body["action"] for body in await bodies(ledger)]


async def two_jobs(ledger: Ledger, first: JobClaim) -> JobClaim:
    """The first job waits for its turn, and another with another key has its own."""
    await ledger.release_job(first, LONG)
    await admit(ledger, "job-2", key="other")
    return await claimed(ledger)


async def test_nothing_is_switched_under_other_terms(ledger: Ledger) -> None:
    first = await running(ledger)
    epoch = (await begin_pause(ledger, first)).epoch
    await list_all(ledger, first, versions(2), epoch)
    await carry(ledger)
    second = await two_jobs(ledger, first)

    with pytest.raises(ConflictError, match="another job's key"):
        await ledger.switch(second, dedicating(epoch))

    begun = await ledger.begin_pass(second, epoch)
    assert (begun.number, begun.listed) == (2, False), "the pass that was listed sees nothing again"
    with pytest.raises(ConflictError):
        await ledger.switch(second, dedicating(epoch))
    await ledger.record_page(second, begun.number, versions(2), None, None)
    with pytest.raises(ConflictError):
        await ledger.switch(second, dedicating(epoch))
    await carry(ledger)
    assert (await ledger.switch(second, dedicating(epoch))).phase == "dedicated"


async def test_a_former_jobs_segment_verifies_nothing_under_the_latter_ones_terms(ledger: Ledger) -> None:
    first = await running(ledger)
    await list_all(ledger, first, versions(2))
    part = await segment(ledger)
    second = await two_jobs(ledger, first)
    await ledger.begin_pass(second, None)

    await ledger.record_outcomes(part, [verified(each) for each in versions(2)])

    await ledger.finish_segment(part)
    assert (await ledger.counts(second)).objects_verified == 0
    assert (await list_all(ledger, second, versions(2))).changed_objects == 2
    rows = await carry(ledger)
    assert [row.target for row in rows] == [copy_of(each) for each in versions(2)]
    assert (await ledger.counts(second)).objects_verified == 2


async def test_a_latter_job_verifies_nothing_under_the_former_ones_terms(ledger: Ledger) -> None:
    """What it carries before its own first pass isn't taken for the former job's, should that go on."""
    first = await running(ledger)
    await list_all(ledger, first, versions(2))
    second = await two_jobs(ledger, first)

    await carry(ledger)

    assert (await ledger.counts(second)).objects_verified == 0
    assert (await list_all(ledger, second, versions(2))).changed_objects == 2


async def test_what_is_not_verified_is_no_matter_of_terms(ledger: Ledger) -> None:
    first = await running(ledger)
    await list_all(ledger, first, versions(4))
    ends = ("excluded", "failed", "dropped")
    part = await segment(ledger)
    outcomes = [ObjectOutcome(each, state, "x") for each, state in zip(versions(3), ends, strict=True)]  # type: ignore[arg-type]
    await ledger.record_outcomes(part, outcomes)
    await ledger.release_segment(part)
    before = await ledger.counts(first)
    second = await two_jobs(ledger, first)

    await ledger.begin_pass(second, None)

    assert await ledger.counts(second) == before
    assert await ledger.failed_objects(second, 10) == [(versions(3)[1].key, "x")]
    (row,) = await ledger.segment_rows(await segment(ledger))
    assert (row.source, row.state) == (versions(4)[3], "listed")


async def test_a_dedicated_tenants_rows_stay_as_they_are(ledger: Ledger) -> None:
    first = await dedicated(ledger, versions(3))
    await ledger.release_job(first, LONG)
    await admit(ledger, "job-2", options={"verify": "read_back"})
    second = await claimed(ledger)

    with pytest.raises(ConflictError):
        await ledger.begin_pass(second, None)

    assert (await ledger.counts(second)).objects_verified == 3
    assert await ledger.plan_retirement(second) == 1
