"""JobLedger.admit."""

from __future__ import annotations

import asyncio

import pytest

from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import Counts
from rekeyd.ledger.port import Ledger
from tests.contract.ledger.stories import (
    KEY,
    actions,
    admit,
    bodies,
    dedicated,
    message,
    source_of,
    target_of,
    versions,
)


async def test_an_admitted_job_is_there_with_its_move_and_placement(ledger: Ledger) -> None:
    admission = await admit(ledger)

    assert admission.created
    job = await ledger.job("job-1")
    assert job == admission.job
    assert job.message == message().message
    assert (job.source, job.target) == (source_of("acme"), target_of("acme"))
    assert (job.state, job.phase, job.held_reason, job.error) == ("queued", "queued", None, None)
    assert (job.grace_seconds, job.attempts, job.counts) == (3600, 0, Counts())
    assert (job.started_at, job.finished_at) == (None, None)
    assert abs(job.created_at - await ledger.now()) < 60
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert (record.phase, record.epoch, record.key_state) == ("shared", 0, "pending")
    assert (record.source, record.target) == (source_of("acme"), target_of("acme"))


async def test_the_same_job_again_is_the_same_job(ledger: Ledger) -> None:
    first = await admit(ledger)
    second = await admit(ledger)

    assert not second.created
    assert second.job == first.job
    assert await actions(ledger) == ["job.admitted"]


async def test_the_same_id_with_another_body_is_a_conflict_on_record(ledger: Ledger) -> None:
    await admit(ledger)

    with pytest.raises(ConflictError):
        await admit(ledger, requested_by="somebody else")
    assert await actions(ledger) == ["job.admitted", "job.refused"]


async def test_offered_many_times_at_once_it_is_admitted_once(ledger: Ledger, other: Ledger) -> None:
    offers = await asyncio.gather(*(admit(each) for each in (ledger, other) * 8))

    assert sum(offer.created for offer in offers) == 1
    assert await actions(ledger) == ["job.admitted"]


@pytest.mark.parametrize(
    ("tenant", "source", "target", "field"),
    [
        ("rival", "s3://shared/tenants/acme/", "s3://byok-rival/", "source"),
        ("rival", "s3://shared/tenants/acme/inner/", "s3://byok-rival/", "source"),
        ("rival", "s3://shared/tenants/", "s3://byok-rival/", "source"),
        ("rival", "s3://shared/", "s3://byok-rival/", "source"),
        ("rival", "s3://shared/tenants/rival/", "s3://byok-acme/", "target"),
        ("rival", "s3://shared/tenants/rival/", "s3://byok-acme/inner/", "target"),
        ("rival", "s3://byok-acme/inner/", "s3://byok-rival/", "source"),
        ("rival", "s3://shared/tenants/rival/", "s3://shared/tenants/acme/byok/", "target"),
    ],
)
async def test_a_location_that_overlaps_another_tenants_is_refused(
    ledger: Ledger, tenant: str, source: str, target: str, field: str
) -> None:
    await admit(ledger)

    with pytest.raises(RefusedError) as refused:
        await admit(ledger, "job-2", tenant, source=source, target=target)

    assert refused.value.field == field
    refusal = (await bodies(ledger))[-1]
    assert (refusal["action"], refusal["job"], refusal["tenant"]) == ("job.refused", "job-2", tenant)
    assert "acme" not in refusal["reason"].replace(str(source), "").replace(str(target), "")
    assert (await ledger.placement(tenant))[0] is None


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("s3://shared/tenants/acme2/", "s3://byok-acme2/"),
        ("s3://shared/tenants/acm/", "s3://byok-acm/"),
        ("s3://shared/tenants/ACME/", "s3://byok-upper/"),
        ("elsewhere://shared/tenants/acme/", "elsewhere://byok-acme/"),
        ("s3://shared2/tenants/acme/", "s3://byok-acme.2/"),
    ],
)
async def test_neighbours_do_not_overlap(ledger: Ledger, source: str, target: str) -> None:
    await admit(ledger)

    assert (await admit(ledger, "job-2", "rival", source=source, target=target)).created


async def test_a_tenant_may_use_its_own_locations_again(ledger: Ledger) -> None:
    first = await admit(ledger)
    again = await admit(ledger, "job-2")
    elsewhere = await admit(ledger, "job-3", target="s3://byok-acme/inner/")

    assert first.job.move_id == again.job.move_id != elsewhere.job.move_id


async def test_a_key_belongs_to_one_tenant(ledger: Ledger) -> None:
    await admit(ledger)

    with pytest.raises(RefusedError) as refused:
        await admit(ledger, "job-2", "rival", key="acme")
    assert refused.value.field == "key"
    assert (await actions(ledger))[-1] == "job.refused"


async def test_a_dedicated_tenant_takes_the_same_move_only(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(3))

    assert (await admit(ledger, "job-2")).job.move_id == claim.job.move_id
    for field, elsewhere in {
        "target": {"target": "s3://byok-other/"},
        "source": {"source": "s3://shared/other/acme/"},
        "key": {"key": "another"},
    }.items():
        with pytest.raises(RefusedError) as refused:
            await admit(ledger, "job-3", **elsewhere)
        assert refused.value.field == field


async def test_a_later_job_redirects_a_placement_that_nobody_works_on(ledger: Ledger) -> None:
    await admit(ledger)
    await admit(ledger, "job-2", target="s3://byok-acme-2/")
    record, _ = await ledger.placement("acme")
    assert record is not None
    assert record.target == target_of("acme")

    await ledger.cancel_job("job-1", "operator")
    await ledger.cancel_job("job-2", "operator")
    await admit(ledger, "job-3", target="s3://byok-acme-3/")

    record, _ = await ledger.placement("acme")
    assert record is not None
    assert str(record.target) == "s3://byok-acme-3/"


async def test_admission_is_on_record_with_who_asked_and_the_bodys_digest(ledger: Ledger) -> None:
    await admit(ledger, requested_by="somebody@example.com")

    (admitted,) = await bodies(ledger)
    assert admitted["actor"] == "upstream"
    assert admitted["key"] == KEY + "acme"
    assert admitted["body_sha256"] == message(requested_by="somebody@example.com").body_sha256
    assert admitted["requested_by"] == "somebody@example.com"
    assert "traceparent" not in admitted
