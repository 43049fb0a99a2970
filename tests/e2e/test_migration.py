"""A whole migration, as an upstream service or an operator asks for it, by every way of carrying."""

from __future__ import annotations

from datetime import datetime

import pytest

from rekeyd.domain.objects import OWN_PREFIX
from tests.e2e.harness import Scene, Served, Tenant, mixed_items, names_of, small_items

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOB_FIELDS = {
    "id",
    "kind",
    "tenant",
    "state",
    "phase",
    "held_reason",
    "error",
    "objects_listed",
    "objects_verified",
    "objects_excluded",
    "objects_deleted",
    "bytes_listed",
    "bytes_verified",
    "created_at",
    "started_at",
    "finished_at",
}
PLACEMENT_FIELDS = {
    "tenant",
    "phase",
    "source",
    "target",
    "key_state",
    "epoch",
    "reads",
    "writes",
    "deletes",
    "writes_from",
    "expires_at",
}
PROOF_PARTS = 2
"""Parts that are uploaded to show that a Complete heeds its conditions: one for each of them."""
METRICS = {
    "rekeyd_jobs",
    "rekeyd_jobs_held",
    "rekeyd_keys",
    "rekeyd_objects_total",
    "rekeyd_bytes_total",
    "rekeyd_verdicts_total",
    "rekeyd_store_requests_total",
    "rekeyd_key_checks_total",
    "rekeyd_intake_messages_total",
    "rekeyd_claims_lost_total",
    "rekeyd_audit_records_total",
    "rekeyd_job_duration_seconds_count",
    "rekeyd_store_request_duration_seconds_count",
    "rekeyd_writes_paused_seconds_count",
    "rekeyd_ledger_commit_duration_seconds_count",
    "rekeyd_pace_concurrency",
    "rekeyd_build_info",
}


@pytest.mark.parametrize("target_store", ["s3", "s3b"], ids=["server_side", "streaming"])
async def test_two_tenants_move_and_a_third_is_left_alone(scene: Scene, target_store: str) -> None:
    await scene.open(target_store=target_store)
    acme = await scene.tenant("acme", mixed_items())
    initech = await scene.tenant("initech", mixed_items(small=30))
    neighbour = await scene.tenant("globex", small_items(20))
    await scene.send(acme.message())
    await scene.admit(initech.message("by-hand", options={"verify": "read_back"}))

    async with scene.serving() as served, scene.ledger() as ledger:
        await ledger.until_state("acme-migrate-1", "completed")
        await ledger.until_state("by-hand", "completed")
        await assert_telemetry(served, scene, acme, initech)
        verify = {"schema": "rekeyd.job/1", "id": "acme-verify-1", "kind": "verify", "tenant": "acme"}
        await scene.send(verify)
        verified = await ledger.until_state("acme-verify-1", "completed")
        assert verified.result is not None
        assert verified.result["copies"] == {"intact": len(acme.loaded)}
        assert await served.daemon.stop() == 0

    for tenant, job_id in ((acme, "acme-migrate-1"), (initech, "by-hand")):
        await scene.assert_moved(tenant)
        await assert_certified(scene, tenant, job_id)
    await scene.assert_untouched(neighbour)
    await scene.assert_audit_whole()
    await assert_shown(scene, acme)
    assert names_of(await scene.ask("jobs")) == {"acme-migrate-1", "acme-verify-1", "by-hand"}
    assert names_of(await scene.ask("jobs", "--tenant", "initech")) == {"by-hand"}


async def assert_certified(scene: Scene, tenant: Tenant, job_id: str) -> None:
    """The certificate is checked with nothing but files: as the command printed it, and as the tenant has it."""
    folder = scene.folder / job_id
    (folder / "evidence").mkdir(parents=True)
    key = next(iter(tenant.loaded))
    for name, arguments in {
        "key.pem": ("public-key",),
        "certificate.json": (job_id,),
        "proof.json": (job_id, "--object", key),
    }.items():
        ran = await scene.run("certificate", *arguments)
        assert ran.status == 0, ran
        (folder / name).write_text(ran.printed, encoding="utf-8")
    owns = [key for key in await scene.keys_in(tenant.target) if key.startswith(OWN_PREFIX)]
    for number, own in enumerate(owns):
        got = await scene.clients.s3.get_object(Bucket=tenant.target.bucket, Key=own)
        assert got["SSEKMSKeyId"] == tenant.key_arn
        data = await got["Body"].read()
        if own == f"{OWN_PREFIX}certificates/{job_id}.json":
            assert data == (folder / "certificate.json").read_bytes().removesuffix(b"\n")
        elif own.startswith(f"{OWN_PREFIX}evidence/{job_id}/"):
            (folder / "evidence" / f"{number:08d}.jsonl").write_bytes(data)
    checked = await scene.run_here(
        *("certificate", "verify", str(folder / "certificate.json"), "--json"),
        *("--public-key", str(folder / "key.pem")),
        *("--evidence", str(folder / "evidence"), "--evidence", str(folder / "proof.json")),
    )
    assert checked.status == 0, checked
    assert (checked.document["objects"], checked.document["evidence"]) == (len(tenant.loaded), True)
    (proven,) = checked.document["proven"]
    assert (proven["target_key"], proven["outcome"]) == (key, "deleted")
    assert proven["delete_requests"]


async def assert_shown(scene: Scene, tenant: Tenant) -> None:
    """`job` and `placement` say, in the contract's words, how it ended."""
    job = await scene.ask("job", f"{tenant.name}-migrate-1")
    assert job.keys() >= JOB_FIELDS
    count = len(tenant.loaded)
    assert {name: job[name] for name in JOB_FIELDS if not name.endswith("_at")} == {
        "id": f"{tenant.name}-migrate-1",
        "kind": "migrate",
        "tenant": tenant.name,
        "state": "completed",
        "phase": "done",
        "held_reason": None,
        "error": None,
        "objects_listed": count,
        "objects_verified": count,
        "objects_excluded": 0,
        "objects_deleted": count,
        "bytes_listed": tenant.size_bytes,
        "bytes_verified": tenant.size_bytes,
    }
    created, started, finished = (
        datetime.fromisoformat(job[name]) for name in ("created_at", "started_at", "finished_at")
    )
    assert created <= started < finished
    placement = await scene.ask("placement", tenant.name)
    assert placement.keys() >= PLACEMENT_FIELDS
    assert {name: placement[name] for name in PLACEMENT_FIELDS - {"epoch", "writes_from", "expires_at"}} == {
        "tenant": tenant.name,
        "phase": "dedicated",
        "source": str(tenant.source),
        "target": str(tenant.target),
        "key_state": "active",
        "reads": [str(tenant.target)],
        "writes": [str(tenant.target)],
        "deletes": "allow",
    }
    assert placement["epoch"] == 3, "shared is 0, paused 1, and 2 its return"


async def assert_telemetry(served: Served, scene: Scene, *tenants: Tenant) -> None:
    """The contract's metrics count what was done, and the ways are the ones that were to be taken."""
    assert (await served.telemetry("/healthz"))[0] == 200
    assert (await served.telemetry("/readyz"))[0] == 200
    samples = await served.metrics()
    assert {name for name, _ in samples} >= METRICS
    count = sum(len(tenant.loaded) for tenant in tenants)
    size_bytes = sum(tenant.size_bytes for tenant in tenants)
    for stage in ("copied", "verified", "deleted"):
        assert await served.metric("rekeyd_objects_total", stage=stage) == count
        assert await served.metric("rekeyd_bytes_total", stage=stage) == size_bytes
    # Two passes each list everything; more of them where what was put within the last seconds is carried again.
    assert await served.metric("rekeyd_objects_total", stage="listed") >= 2 * count
    assert await served.metric("rekeyd_verdicts_total", verdict="verified") == count
    assert await served.metric("rekeyd_verdicts_total", verdict="mismatch") == 0
    assert await served.metric("rekeyd_intake_messages_total", intake="sqs", outcome="admitted") == 1
    assert await served.metric("rekeyd_writes_paused_seconds_count") == 2
    assert await served.metric("rekeyd_job_duration_seconds_count", kind="migrate", outcome="completed") == 2
    store = scene.target_store
    streamed = await requests(served, store, "put_part")
    proofs = PROOF_PARTS * len(tenants)
    copied = [await requests(served, store, name) for name in ("copy", "copy_part")]
    if store == "s3":
        assert min(copied) > 0
        assert streamed == proofs
    else:
        assert copied == [0, 0]
        assert streamed > proofs
        # Of the tenant whose bytes are read back each object was read in the target.
        assert await requests(served, store, "read") >= len(tenants[1].loaded)
    samples_names = {label for _, labels in samples for label, _ in labels}
    assert not samples_names & {"tenant", "key", "object", "job"}


async def requests(served: Served, store: str, operation: str) -> float:
    return await served.metric("rekeyd_store_requests_total", store=store, operation=operation, outcome="ok")
