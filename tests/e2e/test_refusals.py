"""What can't be right is refused before anything is written, and the refusal names it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.e2e.harness import RECEIVES_MAX, LedgerView, Scene, Section, Tenant, small_items, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def wrong_messages(scene: Scene, tenant: Tenant) -> dict[str, tuple[str, dict[str, object]]]:
    """By name: the field to be named, and what is wrong."""
    shared = f"s3://{scene.bucket}/tenants/"
    return {
        "target equals source": ("target", {"target": str(tenant.source)}),
        "source contains target": ("target", {"target": f"{tenant.source}inner/"}),
        "source lies within target": ("target", {"target": f"s3://{scene.bucket}/"}),
        "source outside the pattern": ("source", {"source": f"{shared}somebody-else/"}),
        "source is everybody's": ("source", {"source": shared}),
        "target outside the pattern": ("target", {"target": f"s3://{scene.name}-globex/"}),
        "unknown store": ("source", {"source": f"gcs://{scene.bucket}/tenants/{tenant.name}/"}),
        "unknown field": ("grace_seconds", {"grace_seconds": 0}),
        "unknown option": ("options.speed", {"options": {"speed": "high"}}),
        "unknown kind": ("kind", {"kind": "teleport"}),
        "unknown schema": ("schema", {"schema": "rekeyd.job/9"}),
        "id with a slash": ("id", {"id": "a/b"}),
        "no tenant": ("tenant", {"tenant": None}),
        "no key": ("key", {"key": None}),
        "key of an unknown kind": ("key.kind", {"key": {"kind": "pgp"}}),
    }


async def test_the_command_refuses_and_names_the_field(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", ())
    for name, (field, changes) in wrong_messages(scene, acme).items():
        ran = await scene.submit(acme.message(**changes))  # type: ignore[arg-type]
        assert (ran.status, ran.printed) == (2, ""), (name, ran)
        assert ran.said.startswith(f"rekeyd: {field}"), (name, ran)
        assert len(ran.said.splitlines()) == 1
    for given, field in ((json.dumps(acme.message(surprise=1)), "surprise"), ("not JSON", "message")):
        ran = await scene.run("submit", "-", given=given)
        assert (ran.status, ran.printed) == (2, "")
        assert ran.said.startswith(f"rekeyd: {field}: ")
    assert await scene.ask("jobs") == []


async def test_an_id_is_one_job_whatever_comes_under_it(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", ())
    first = acme.message()
    assert await scene.admit(first) == "acme-migrate-1"
    again = await scene.submit(dict(reversed(first.items())))
    assert (again.status, again.printed.strip()) == (0, "acme-migrate-1")
    other = await scene.submit(first | {"options": {"priority": "high"}})
    assert (other.status, other.printed) == (1, "")
    assert "acme-migrate-1" in other.said
    assert len(await scene.ask("jobs")) == 1


async def test_the_queue_keeps_what_is_refused(scene: Scene) -> None:
    await scene.open(intake__sqs={"visibility_seconds": 5})
    acme = await scene.tenant("acme", small_items(3))
    await scene.send(acme.message())
    refused = [
        json.dumps(acme.message("refused-1", target=str(acme.source))),
        json.dumps(acme.message("refused-2", surprise=1)),
        "not JSON",
    ]
    conflicting = json.dumps(acme.message(options={"priority": "high"}))
    async with scene.serving() as served, scene.ledger() as ledger:
        await ledger.until_state("acme-migrate-1", "completed")
        for body in (*refused, conflicting):
            await scene.clients.sqs.send_message(QueueUrl=scene.queue_url, MessageBody=body)
        letters = await dead_letters(scene, len(refused) + 1)
        assert sorted(letters) == sorted([*refused, conflicting])
        counted = {
            outcome: await served.metric("rekeyd_intake_messages_total", intake="sqs", outcome=outcome)
            for outcome in ("admitted", "refused", "conflict")
        }
        # Each came as often as the queue hands a message out before it gives it up.
        assert counted == {"admitted": 1, "refused": RECEIVES_MAX * len(refused), "conflict": RECEIVES_MAX}
        fields = {line["field"] for line in served.logged() if line.get("event") == "intake.refused"}
        assert fields == {"target", "surprise", "message"}
        assert [job.id for job in await ledger.ledger.jobs()] == ["acme-migrate-1"]


async def dead_letters(scene: Scene, count: int) -> list[str]:
    found: list[str] = []

    async def all_there() -> bool:
        answer = await scene.clients.sqs.receive_message(
            QueueUrl=scene.dead_letter_url, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        found.extend(message["Body"] for message in answer.get("Messages", []))
        return len(found) >= count

    await until(all_there)
    return found


async def test_a_target_that_is_somebody_elses_fails_the_job_and_is_left_alone(scene: Scene) -> None:
    await scene.open()
    s3 = scene.clients.s3
    full = await scene.tenant("full", small_items(5))
    await s3.create_bucket(Bucket=full.target.bucket)
    await s3.put_object(Bucket=full.target.bucket, Key="foreign", Body=b"not ours")
    taken = await scene.tenant("taken", small_items(5))
    await s3.create_bucket(Bucket=taken.target.bucket)
    tags = [{"Key": "rekeyd:tenant", "Value": "globex"}, {"Key": "team", "Value": "blue"}]
    await s3.put_bucket_tagging(Bucket=taken.target.bucket, Tagging={"TagSet": tags})  # type: ignore[typeddict-item]
    before = [await look_of(scene, tenant) for tenant in (full, taken)]
    async with scene.serving(), scene.ledger() as ledger:
        for tenant, words in ((full, "objects"), (taken, "another tenant")):
            await scene.admit(tenant.message())
            job = await ledger.until_state(f"{tenant.name}-migrate-1", "failed")
            assert job.error is not None
            assert words in job.error
        assert [await look_of(scene, tenant) for tenant in (full, taken)] == before
        for tenant in (full, taken):
            await scene.assert_untouched(tenant)

        # Its cause mended, a person has the failed job picked up again.
        await s3.delete_object(Bucket=full.target.bucket, Key="foreign")
        assert (await scene.run_here("resume", "full-migrate-1")).status == 0
        await ledger.until_job("full-migrate-1", lambda job: job.state == "completed")
        await scene.assert_moved(full)
        assert await resumed_in_vain(scene, ledger)


async def look_of(scene: Scene, tenant: Tenant) -> tuple[object, ...]:
    """All of a bucket that a job could change."""
    s3, bucket = scene.clients.s3, tenant.target.bucket
    keys = await scene.snapshot(tenant.target)
    try:
        tags = (await s3.get_bucket_tagging(Bucket=bucket))["TagSet"]
    except s3.exceptions.ClientError as error:
        tags = [{"Key": "none", "Value": str(error)}]
    try:
        rules: object = (await s3.get_bucket_encryption(Bucket=bucket))["ServerSideEncryptionConfiguration"]
    except s3.exceptions.ClientError as error:
        rules = str(error)
    return keys, sorted(tag["Key"] + "=" + tag["Value"] for tag in tags), rules


async def resumed_in_vain(scene: Scene, ledger: LedgerView) -> bool:
    """A job that is done stays done."""
    ran = await scene.run_here("resume", "full-migrate-1")
    job = await ledger.job("full-migrate-1")
    return ran.status == 1 and job is not None and job.state == "completed"


WRONG_SETTINGS: dict[str, Mapping[str, Section]] = {
    "limits.speed": {"limits": {"speed": 11}},
    "migrate.pause_seconds_max": {"migrate": {"pause_seconds_max": 1}},
    "limits.lease_seconds": {"limits": {"lease_seconds": 3}},
    "migrate.target_pattern": {"migrate": {"target_pattern": "s3://one-bucket/{tenant}/"}},
    "migrate.source_pattern": {"migrate": {"source_pattern": ""}},
    "limits.buffer_bytes_max": {"limits": {"buffer_bytes_max": 2 * 1024**2}},
}


@pytest.mark.parametrize(("key", "sections"), WRONG_SETTINGS.items())
async def test_a_daemon_does_not_start_with_settings_that_cannot_be(
    scene: Scene, key: str, sections: Mapping[str, Section]
) -> None:
    await scene.open()
    scene.configure(**sections)
    ran = await scene.run("serve")
    assert (ran.status, ran.printed) == (2, "")
    assert f"settings: {key}:" in ran.said
    assert not (scene.folder / "ledger.db").exists()


async def test_a_daemon_does_not_start_without_its_ledger(scene: Scene) -> None:
    await scene.open(ledger={"url": f"sqlite://{scene.config}/ledger.db"})
    assert (await scene.run("serve")).status == 3
