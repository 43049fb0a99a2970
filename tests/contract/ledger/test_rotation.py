"""A rotation in the ledger: a move from a bucket to itself, of which nothing is ever swept from a store or retired."""

from __future__ import annotations

import json

import pytest

from rekeyd.domain.errors import ClaimLostError, ConflictError, RefusedError
from rekeyd.domain.job import ReceivedJob, read_job_message
from rekeyd.domain.objects import Location, ObjectVersion
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.port import JobClaim, Ledger, ObjectOutcome
from tests.contract.ledger.stories import (
    ALIAS,
    KEY,
    bodies,
    claimed,
    dedicated,
    running,
    versions,
    work,
)

FORMER, NEW = KEY + "acme", KEY + "acme-2"


def rotating(job_id: str = "rotate-1", key: str | None = "acme-2", tenant: str = "acme") -> ReceivedJob:
    body: dict[str, object] = {"schema": "rekeyd.job/1", "id": job_id, "kind": "rotate", "tenant": tenant}
    if key is not None:
        body["key"] = {"kind": "kms", "arn": KEY + key, "alias": ALIAS + key}
    return read_job_message(json.dumps(body).encode())


async def rotation(ledger: Ledger) -> JobClaim:
    """A claimed rotation of a dedicated tenant."""
    await ledger.finish_job(await dedicated(ledger, versions(2)), "completed", None)
    await ledger.admit_tenant_job(rotating(), "upstream")
    return await claimed(ledger)


async def record_of(ledger: Ledger) -> PlacementRecord:
    record, _ = await ledger.placement("acme")
    assert record is not None
    return record


async def states_of(ledger: Ledger) -> dict[str, str]:
    return {key.ref: key.state for key in await ledger.tenant_keys("acme")}


async def test_its_move_leads_from_the_whole_bucket_to_itself(ledger: Ledger) -> None:
    claim = await rotation(ledger)

    place = Location.parse("s3://byok-acme/")
    assert (claim.job.source, claim.job.target, claim.job.key.arn) == (place, place, NEW)
    assert claim.job.in_place
    assert await states_of(ledger) == {FORMER: "pending", NEW: "pending"}
    assert [move.in_place for move in await ledger.tenant_moves_of("acme")] == [False, True]


async def test_the_same_message_is_the_same_job(ledger: Ledger) -> None:
    claim = await rotation(ledger)

    again = await ledger.admit_tenant_job(rotating(), "upstream")

    assert (again.created, again.job.id, again.job.move_id) == (False, claim.job.id, claim.job.move_id)
    with pytest.raises(ConflictError):
        await ledger.admit_tenant_job(rotating(key="another"), "upstream")


async def test_the_placement_is_led_to_the_key_once_under_a_higher_epoch(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    before = await record_of(ledger)

    redirected = await ledger.redirect_key(claim)

    assert await ledger.redirect_key(claim) == redirected == await record_of(ledger)
    assert (redirected.phase, redirected.target) == ("dedicated", before.target)
    assert (redirected.key_ref, redirected.epoch) == (NEW, before.epoch + 1)
    assert redirected.writes_from == before.writes_from
    assert (await states_of(ledger))[NEW] == "active"
    changes = [body for body in await bodies(ledger) if body["action"] == "key.state" and body["key"] == NEW]
    assert [(body["outcome"], body["former_key"]) for body in changes] == [("active", FORMER)]


async def test_nothing_is_listed_before_the_placement_leads_to_the_key(ledger: Ledger) -> None:
    claim = await rotation(ledger)

    with pytest.raises(ConflictError, match="doesn't lead to"):
        await ledger.begin_pass(claim, None)

    await ledger.redirect_key(claim)
    assert (await ledger.begin_pass(claim, None)).number == 1


async def test_what_was_brought_is_never_put_into_a_retirement(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    await ledger.redirect_key(claim)
    found = ObjectVersion("k", 3, "etag")
    begun = await ledger.begin_pass(claim, None)
    await ledger.record_page(claim, begun.number, [found], None, None)
    brought = ObjectVersion("k", 3, "another")
    await work(ledger, lambda row: ObjectOutcome(row.source, "verified", target=brought))
    assert (await ledger.counts(claim)).objects_verified == 1

    with pytest.raises(ConflictError, match="nothing may be retired"):
        await ledger.plan_retirement(claim)
    assert await ledger.claim_segment("worker-1", 60.0) is None


async def test_a_migrations_own_rows_are_no_part_of_it(ledger: Ledger) -> None:
    claim = await rotation(ledger)

    assert (await ledger.counts(claim)).objects_listed == 0
    assert await ledger.current_pass(claim) is None


async def test_a_former_key_is_archived_once_and_the_one_in_use_never(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    with pytest.raises(ConflictError, match="leads"):
        await ledger.archive_key(claim, FORMER, {})
    await ledger.redirect_key(claim)

    for _ in range(2):
        await ledger.archive_key(claim, FORMER, {"under_it": 0})

    assert await states_of(ledger) == {FORMER: "archived", NEW: "active"}
    archived = [body for body in await bodies(ledger) if body.get("outcome") == "archived"]
    assert [(body["key"], body["under_it"]) for body in archived] == [(FORMER, 0)]
    with pytest.raises(ConflictError, match="leads"):
        await ledger.archive_key(claim, NEW, {})


async def test_an_archived_key_may_be_rotated_to_again(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    await ledger.redirect_key(claim)
    await ledger.archive_key(claim, FORMER, {})
    await ledger.finish_job(claim, "completed", None)

    await ledger.admit_tenant_job(rotating("rotate-2", "acme"), "upstream")
    back = await claimed(ledger)
    assert back.job.move_id == claim.job.move_id
    assert (await ledger.redirect_key(back)).key_ref == FORMER
    assert (await states_of(ledger))[FORMER] == "active"
    await ledger.begin_pass(back, None)


async def test_the_alias_that_a_rotation_proved_is_the_keys_from_then_on(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    await ledger.redirect_key(claim)
    await ledger.finish_job(claim, "completed", None)
    there = ALIAS + "elsewhere"
    back = json.loads(rotating("rotate-2", "acme").body)
    back["key"]["alias"] = there
    await ledger.admit_tenant_job(read_job_message(json.dumps(back).encode()), "upstream")
    assert {key.ref: key.alias for key in await ledger.tenant_keys("acme")}[FORMER] == ALIAS + "acme"

    claim = await claimed(ledger)
    assert claim.job.key.alias == there
    await ledger.redirect_key(claim)

    assert {key.ref: key.alias for key in await ledger.tenant_keys("acme")} == {
        FORMER: there,
        NEW: ALIAS + "acme-2",
    }


async def test_what_a_provider_encrypts_with_is_recorded_once_and_what_it_was_before(ledger: Ledger) -> None:
    await rotation(ledger)
    for material in ("first", "first", "second", "second"):
        await ledger.observe_material(FORMER, material, "watcher")
    await ledger.observe_material("a key that nobody has", "first", "watcher")

    found = [body for body in await bodies(ledger) if body["action"] == "key.material"]
    assert [(body["key"], body.get("former"), body["outcome"]) for body in found] == [
        (FORMER, None, "first"),
        (FORMER, "first", "second"),
    ]
    assert {(body["actor"], body["tenant"], body["job"]) for body in found} == {("watcher", "acme", None)}
    materials = {key.ref: key.material_id for key in await ledger.tenant_keys("acme")}
    assert materials == {FORMER: "second", NEW: None}


@pytest.mark.parametrize("key", ["acme-2", None])
async def test_a_tenant_in_its_source_is_refused_on_record(ledger: Ledger, key: str | None) -> None:
    await running(ledger)

    with pytest.raises(RefusedError, match="tenant: is shared"):
        await ledger.admit_tenant_job(rotating(key=key), "upstream")

    assert (await bodies(ledger))[-1]["action"] == "job.refused"
    assert await states_of(ledger) == {FORMER: "pending"}


async def test_amid_a_revocation_nothing_is_redirected(ledger: Ledger) -> None:
    await rotation(ledger)
    body = {"schema": "rekeyd.job/1", "id": "revoke-1", "kind": "revoke", "tenant": "acme"}
    await ledger.admit_tenant_job(read_job_message(json.dumps(body).encode()), "upstream")

    job = await ledger.job("rotate-1")
    assert (job.state, job.held_reason) == ("held", "revoked")
    with pytest.raises(RefusedError, match="tenant: is revoked"):
        await ledger.admit_tenant_job(rotating("rotate-2"), "upstream")


async def test_who_lost_the_claim_redirects_nothing(ledger: Ledger) -> None:
    claim = await rotation(ledger)
    await ledger.cancel_job("rotate-1", "an operator")
    for call in (ledger.redirect_key(claim), ledger.archive_key(claim, FORMER, {})):
        with pytest.raises(ClaimLostError):
            await call
    assert (await record_of(ledger)).key_ref == FORMER
