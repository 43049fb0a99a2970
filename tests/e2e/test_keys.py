"""A key that can't be used holds its tenant's jobs, with the reason; mended, they go on by themselves."""

from __future__ import annotations

import time

import pytest
from botocore.exceptions import ClientError

from tests.doubles.weather import Asked, Fault, Weather, fair
from tests.e2e.harness import LedgerView, Scene, Served, Tenant, mixed_items, small_items, until
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, ONE_BY_ONE, SLOWLY, retiring

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOBODYS_KEY = "00000000-0000-4000-8000-000000000000"
HELD_SECONDS_MAX = 20.0
"""From the key's being disabled; it is looked at every half second here."""


async def assert_nothing_written(scene: Scene, tenant: Tenant) -> None:
    with pytest.raises(ClientError):
        await scene.clients.s3.head_bucket(Bucket=tenant.target.bucket)
    await scene.assert_untouched(tenant)


async def test_a_job_waits_for_its_key_and_goes_on_when_it_is_mended(scene: Scene) -> None:
    await scene.open(limits={"jobs_max": 10})
    kms, items = scene.clients.kms, small_items(8)
    names = ("disabled", "dying", "elsewhere", "nameless", "missing", "rsa", "abroad")
    tenants = {name: await scene.tenant(name, items) for name in names}

    disabled = tenants["disabled"]
    await kms.disable_key(KeyId=disabled.key_arn)
    dying = tenants["dying"]
    await kms.schedule_key_deletion(KeyId=dying.key_arn, PendingWindowInDays=7)
    elsewhere = tenants["elsewhere"]
    alias_of_elsewhere = elsewhere.alias_arn.rpartition(":")[2]
    await kms.update_alias(AliasName=alias_of_elsewhere, TargetKeyId=disabled.key_arn)
    nameless = tenants["nameless"]
    alias_of_nameless = nameless.alias_arn.rpartition(":")[2]
    await kms.delete_alias(AliasName=alias_of_nameless)
    prefix = disabled.key_arn.rpartition("/")[0]
    missing = tenants["missing"].naming(key_arn=f"{prefix}/{NOBODYS_KEY}")
    asymmetric = await kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    rsa = tenants["rsa"].naming(key_arn=asymmetric["KeyMetadata"]["Arn"])
    abroad = tenants["abroad"]
    foreign = scene.sandbox.region.replace("1", "2")
    region = f":{scene.sandbox.region}:"
    abroad = abroad.naming(
        key_arn=abroad.key_arn.replace(region, f":{foreign}:"),
        alias_arn=abroad.alias_arn.replace(region, f":{foreign}:"),
    )
    reasons = {
        disabled: "key_disabled",
        dying: "key_pending_deletion",
        elsewhere: "key_alias_mismatch",
        nameless: "key_missing",
        missing: "key_missing",
        rsa: "key_wrong_usage",
        abroad: "key_missing",  # the emulator knows no key there; one that is there would be key_wrong_region
    }
    for tenant in reasons:
        await scene.send(tenant.message())

    async with scene.serving() as served, scene.ledger() as ledger:
        for tenant, reason in reasons.items():
            job = await ledger.until_held(f"{tenant.name}-migrate-1", reason)
            assert job.error
        for tenant in reasons:
            await assert_nothing_written(scene, tenant)
        assert await served.metric("rekeyd_key_checks_total", outcome="key_disabled") >= 1
        (ran, shown) = (
            await scene.run("job", "disabled-migrate-1", "--watch"),
            await scene.ask("job", "disabled-migrate-1"),
        )
        assert (ran.status, shown["state"], shown["held_reason"]) == (1, "held", "key_disabled")

        await kms.enable_key(KeyId=disabled.key_arn)
        await kms.cancel_key_deletion(KeyId=dying.key_arn)
        await kms.enable_key(KeyId=dying.key_arn)
        await kms.update_alias(AliasName=alias_of_elsewhere, TargetKeyId=elsewhere.key_arn)
        await kms.create_alias(AliasName=alias_of_nameless, TargetKeyId=nameless.key_arn)
        for tenant in (disabled, dying, elsewhere, nameless):
            await ledger.until_state(f"{tenant.name}-migrate-1", "completed")
        for tenant in (missing, rsa, abroad):
            await ledger.until_held(f"{tenant.name}-migrate-1", reasons[tenant])
            await assert_nothing_written(scene, tenant)
    for tenant in (disabled, dying, elsewhere, nameless):
        await scene.assert_moved(tenant)


@pytest.mark.parametrize("target_store", ["s3", "s3b"], ids=["server_side", "streaming"])
async def test_a_key_disabled_amid_copying_holds_the_job(scene: Scene, target_store: str) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, target_store=target_store, limits=SLOWLY | PATIENT)
        acme = await scene.tenant("acme", mixed_items())
        weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
        await scene.send(acme.message())
        async with scene.serving() as served, scene.ledger() as ledger:
            await ledger.until_copying(JOB, verified_min=FREE)
            await held_by_the_key(scene, served, ledger, acme)
            written = await scene.snapshot(acme.target)
            assert len(written) < len(acme.loaded)

            await until_looked_at_again(served)
            assert await scene.snapshot(acme.target) == written
            await scene.assert_untouched(acme)

            weather.forecast = fair
            await scene.clients.kms.enable_key(KeyId=acme.key_arn)
            await ledger.until_state(JOB, "completed")
        await scene.assert_moved(acme)
        await scene.assert_audit_whole()


async def test_a_key_disabled_amid_retiring_ends_the_deletions(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, limits=SLOWLY, stores__s3=ONE_BY_ONE)
        acme = await scene.tenant("acme", small_items(120))
        # Two deletes at a time, each of which takes its time: the key is looked at long before the last one.
        weather.forecast = slow_deletes
        await scene.send(acme.message())
        async with scene.serving() as served, scene.ledger() as ledger:
            await retiring(scene, ledger, acme)
            await held_by_the_key(scene, served, ledger, acme)
            asked = weather.seen["DeleteObject"]

            await until_looked_at_again(served)
            assert weather.seen["DeleteObject"] == asked
            assert 0 < len(await scene.keys_in(acme.source)) < len(acme.loaded)

            weather.forecast = fair
            await scene.clients.kms.enable_key(KeyId=acme.key_arn)
            done = await ledger.until_state(JOB, "completed")
            assert done.counts.objects_deleted == len(acme.loaded)
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()


def slow_deletes(asked: Asked) -> Fault | None:
    return "delayed" if asked.operation == "DeleteObject" else None


async def held_by_the_key(scene: Scene, served: Served, ledger: LedgerView, tenant: Tenant) -> None:
    """Disable the key, and see the job held within seconds."""
    await scene.clients.kms.disable_key(KeyId=tenant.key_arn)
    began = time.monotonic()
    await ledger.until_held(JOB, "key_disabled")
    assert time.monotonic() - began < HELD_SECONDS_MAX
    (key,) = [value for (name, labels), value in (await served.metrics()).items() if named(name, labels)]
    assert key >= 1


def named(name: str, labels: frozenset[tuple[str, str]]) -> bool:
    return name == "rekeyd_key_checks_total" and ("outcome", "key_disabled") in labels


async def until_looked_at_again(served: Served) -> None:
    """The held job is looked at twice more, and its key is still no good."""
    seen = await served.metric("rekeyd_key_checks_total", outcome="key_disabled")

    async def again() -> bool:
        return await served.metric("rekeyd_key_checks_total", outcome="key_disabled") >= seen + 2

    await until(again)
