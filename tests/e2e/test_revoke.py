"""A tenant withdraws its key: within seconds nothing can be read, nobody works; and all of it comes back."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from botocore.exceptions import ClientError

from tests.doubles.weather import Weather, fair
from tests.e2e.harness import LedgerView, Scene, Tenant, mixed_items, small_items, until
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, SLOWLY

pytestmark = pytest.mark.asyncio(loop_scope="session")

REVOKE = "acme-revoke-1"
HELD_SECONDS_MAX = 5.0


def overtaking(kind: str, job_id: str, **fields: object) -> dict[str, object]:
    return {"schema": "rekeyd.job/1", "id": job_id, "kind": kind, "tenant": "acme", **fields}


async def unreadable(scene: Scene, tenant: Tenant) -> None:
    """Not one of its objects, by the vendor's own credentials."""
    for key in await scene.keys_in(tenant.target):
        with pytest.raises(ClientError):
            await read(scene, tenant, key)


async def read(scene: Scene, tenant: Tenant, key: str) -> bytes:
    answer = await scene.clients.s3.get_object(Bucket=tenant.target.bucket, Key=key)
    return await answer["Body"].read()


async def phase_of(ledger: LedgerView) -> str:
    placement = await ledger.placement("acme")
    assert placement is not None
    return placement.phase


async def time_of(ledger: LedgerView, action: str, job_id: str) -> datetime:
    """When that was recorded of the job, by the ledger's own clock."""
    bodies = [json.loads(record.body) async for record in ledger.ledger.audit_records("main")]
    (found,) = [body for body in bodies if (body["action"], body.get("job")) == (action, job_id)]
    return datetime.fromisoformat(found["time"])


async def test_a_dedicated_tenants_data_are_unreadable_until_they_are_reinstated(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", small_items(12))
    await scene.send(acme.message())
    async with scene.serving() as served, scene.ledger() as ledger:
        await ledger.until_state(JOB, "completed")
        await scene.send(overtaking("revoke", REVOKE))
        done = await ledger.until_state(REVOKE, "completed")
        assert done.result is not None
        assert done.result["keys"] == {acme.key_arn: "disabled"}
        assert (await scene.ask("job", REVOKE))["result"]["readable_elsewhere"] == []
        assert await served.metric("rekeyd_revocation_effective_seconds_count") == 1
        placement = await scene.ask("placement", "acme")
        assert (placement["phase"], placement["reads"], placement["writes"]) == ("revoked", [], [])
        described = await scene.clients.kms.describe_key(KeyId=acme.key_arn)
        assert described["KeyMetadata"]["KeyState"] == "Disabled"
        await unreadable(scene, acme)
        # Not even with the key: the bucket refuses everybody.
        await scene.clients.kms.enable_key(KeyId=acme.key_arn)
        await unreadable(scene, acme)
        assert await ledger.job("acme-reinstate-0") is None

        await scene.admit(overtaking("reinstate", "acme-reinstate-1", undoes=REVOKE))
        await ledger.until_state("acme-reinstate-1", "completed")
        assert await phase_of(ledger) == "dedicated"
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()


async def test_a_revocation_amid_a_migration_holds_it_at_once_and_it_goes_on_after(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(endpoint=weather.endpoint_url, limits=SLOWLY | PATIENT)
        acme = await scene.tenant("acme", mixed_items(40))
        weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
        await scene.send(acme.message())
        async with scene.serving() as served, scene.ledger() as ledger:
            await ledger.until_copying(JOB, verified_min=FREE)
            await scene.admit(overtaking("revoke", REVOKE))
            held = await ledger.until_state(JOB, "held")
            assert held.held_reason == "revoked"
            await served.until_logged("job_claim_lost")
            admitted_at = await time_of(ledger, "job.admitted", REVOKE)
            assert (await time_of(ledger, "job.held", JOB) - admitted_at).total_seconds() < HELD_SECONDS_MAX
            lost = next(line for line in served.logged() if line.get("event") == "job_claim_lost")
            noticed_at = datetime.fromisoformat(lost["timestamp"])
            assert (noticed_at - admitted_at).total_seconds() < HELD_SECONDS_MAX, (
                "the daemon itself has stopped"
            )
            waiting = await ledger.until_held(REVOKE, "readable_elsewhere")
            assert str(acme.source) in (waiting.error or "")
            await unreadable(scene, acme)
            await scene.assert_untouched(acme)

            assert (await scene.run_here("approve", REVOKE)).status == 0
            await ledger.until_state(REVOKE, "completed")
            weather.forecast = fair
            await scene.admit(overtaking("reinstate", "acme-reinstate-1", undoes=REVOKE))
            await ledger.until_state("acme-reinstate-1", "completed")
            await ledger.until_state(JOB, "completed")

            async def dedicated() -> bool:
                return await phase_of(ledger) == "dedicated"

            await until(dedicated)
    await scene.assert_moved(acme)
    await scene.assert_audit_whole()
