"""A tenant rotates its key: all of its data end under the new one, byte for byte, and the former one is put away."""

from __future__ import annotations

import json

import pytest

from rekeyd.domain.objects import OWN_PREFIX
from tests.doubles.weather import Weather, fair
from tests.e2e.harness import Scene, Tenant, mixed_items
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, SLOWLY
from tests.e2e.test_revoke import REVOKE, overtaking, unreadable

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROTATE = "acme-rotate-1"


async def with_another_key(scene: Scene, tenant: Tenant) -> Tenant:
    """The tenant with a further key and alias."""
    key = (await scene.clients.kms.create_key())["KeyMetadata"]
    alias = f"alias/{scene.name}-{tenant.name}-2"
    await scene.clients.kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return tenant.naming(key_arn=key["Arn"], alias_arn=f"{key['Arn'].partition(':key/')[0]}:{alias}")


def rotating(tenant: Tenant, job_id: str = ROTATE, **options: object) -> dict[str, object]:
    return {
        "schema": "rekeyd.job/1",
        "id": job_id,
        "kind": "rotate",
        "tenant": tenant.name,
        "key": {"kind": "kms", "arn": tenant.key_arn, "alias": tenant.alias_arn},
        "options": options,
    }


async def key_of(scene: Scene, tenant: Tenant, key: str) -> str:
    head = await scene.clients.s3.head_object(Bucket=tenant.target.bucket, Key=key)
    return str(head["SSEKMSKeyId"])


async def test_after_a_rotation_nothing_needs_the_former_key(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", mixed_items(20))
    rotated = await with_another_key(scene, acme)
    await scene.send(acme.message())
    async with scene.serving(), scene.ledger() as ledger:
        await ledger.until_state(JOB, "completed")
        planned = await scene.run("submit", "--plan", "--json", "-", given=json.dumps(rotating(rotated)))
        assert planned.status == 0, planned
        assert planned.document["objects"] > len(acme.loaded)
        assert planned.document["bytes"] > acme.size_bytes
        assert planned.document["kms_calls"] >= 2 * len(acme.loaded)
        assert await ledger.job(ROTATE) is None
        await scene.send(rotating(rotated))
        done = await ledger.until_state(ROTATE, "completed")
        assert done.error is None
        states = {key["ref"]: key["state"] for key in await scene.ask("key", "list", "acme")}
        assert states == {acme.key_arn: "archived", rotated.key_arn: "active"}

        await scene.clients.kms.disable_key(KeyId=acme.key_arn)
        own = [key for key in await scene.snapshot(acme.target) if key.startswith(OWN_PREFIX)]
        assert len(own) > 3
        for key in own:
            assert await key_of(scene, acme, key) == rotated.key_arn
            answer = await scene.clients.s3.get_object(Bucket=acme.target.bucket, Key=key)
            await answer["Body"].read()
        await scene.assert_moved(rotated)
    await scene.assert_audit_whole()


async def test_the_data_follow_the_alias_when_the_tenant_points_it_at_another_key(scene: Scene) -> None:
    await scene.open(limits={"key_watch_seconds": 1})
    acme = await scene.tenant("acme", mixed_items(20))
    rotated = await with_another_key(scene, acme)
    await scene.send(acme.message())
    async with scene.serving() as served, scene.ledger() as ledger:
        await ledger.until_state(JOB, "completed")
        alias = acme.alias_arn.rpartition(":")[2]
        await scene.clients.kms.update_alias(AliasName=alias, TargetKeyId=rotated.key_arn)
        await served.until_logged("rotation_enqueued")
        (job_id,) = [job["id"] for job in await scene.ask("jobs") if job["kind"] == "rotate"]
        done = await ledger.until_state(job_id, "completed")
        assert (done.admitted_by, done.key.arn, done.key.alias) == ("rekeyd", rotated.key_arn, acme.alias_arn)
        states = {key["ref"]: key["state"] for key in await scene.ask("key", "list", "acme")}
        assert states == {acme.key_arn: "archived", rotated.key_arn: "active"}
        assert "key_unavailable" not in [line.get("event") for line in served.logged()]
        await scene.clients.kms.disable_key(KeyId=acme.key_arn)
        await scene.assert_moved(rotated)
    await scene.assert_audit_whole()


async def test_a_revocation_amid_a_rotation_withdraws_both_keys_and_it_is_finished_after(
    scene: Scene,
) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, limits=SLOWLY | PATIENT)
        acme = await scene.tenant("acme", mixed_items(20))
        rotated = await with_another_key(scene, acme)
        await scene.send(acme.message())
        async with scene.serving(), scene.ledger() as ledger:
            await ledger.until_state(JOB, "completed")
            weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
            await scene.send(rotating(rotated))
            await ledger.until_copying(ROTATE, verified_min=FREE)
            await scene.admit(overtaking("revoke", REVOKE))
            held = await ledger.until_state(ROTATE, "held")
            assert held.held_reason == "revoked"
            done = await ledger.until_state(REVOKE, "completed")
            assert done.result is not None
            assert done.result["keys"] == {acme.key_arn: "disabled", rotated.key_arn: "disabled"}
            await unreadable(scene, acme)

            weather.forecast = fair
            await scene.admit(overtaking("reinstate", "acme-reinstate-1", undoes=REVOKE))
            await ledger.until_state("acme-reinstate-1", "completed")
            await ledger.until_state(ROTATE, "completed")
    await scene.assert_moved(rotated)
    await scene.assert_audit_whole()
