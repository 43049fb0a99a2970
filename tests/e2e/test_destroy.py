"""An archived key deleted for good on request, on real servers: only once nothing needs it; the rest goes on."""

from __future__ import annotations

import secrets
import time

import pytest

from tests.e2e.harness import Scene, Tenant, mixed_items
from tests.e2e.test_bring import private_key_file, wrapped
from tests.e2e.test_kills import JOB
from tests.e2e.test_revoke import REVOKE, overtaking, unreadable
from tests.e2e.test_rotate import ROTATE

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY_SECONDS = 86_400


async def test_an_archived_key_is_deleted_once_nothing_needs_it_and_everything_else_goes_on(
    scene: Scene,
) -> None:
    await scene.open(custody__wrapping={"private_key_file": str(private_key_file(scene.folder))})
    for name in ("first", "second"):
        (scene.folder / name).write_bytes(secrets.token_bytes(32))
    acme = await scene.tenant("acme", mixed_items(8))
    await scene.send(acme.message(key=await wrapped(scene, scene.folder / "first")))
    async with scene.serving(), scene.ledger() as ledger:
        migrated = await ledger.until_state(JOB, "completed")
        former = migrated.key_ref or ""
        early = await scene.run("key", "destroy", "acme", former)
        assert (early.status, "is active: only an archived key is destroyed" in early.said) == (1, True), (
            early
        )
        await scene.send(
            {"schema": "rekeyd.job/1", "id": ROTATE, "kind": "rotate", "tenant": "acme"}
            | {"key": await wrapped(scene, scene.folder / "second")}
        )
        rotated = await ledger.until_state(ROTATE, "completed")
        late = await write_under_former(scene, acme, migrated.key.arn)
        needed = await scene.run("key", "destroy", "acme", former)
        assert (needed.status, "1 versions in" in needed.said, "'late'" in needed.said) == (1, True, True), (
            needed
        )
        await scene.clients.s3.delete_object(Bucket=acme.target.bucket, Key=late)

        foreign = await scene.run("key", "destroy", "globex", former)
        assert (foreign.status, "is no key of globex" in foreign.said) == (2, True), foreign
        done = await scene.run("key", "destroy", "acme", former, "--json")
        assert (done.status, done.document["state"]) == (0, "destroyed"), done
        described = (await scene.clients.kms.describe_key(KeyId=migrated.key.arn))["KeyMetadata"]
        assert described["KeyState"] == "PendingDeletion"
        waits_seconds = described["DeletionDate"].timestamp() - time.time()
        assert 29.9 * DAY_SECONDS < waits_seconds < 30.1 * DAY_SECONDS
        again = await scene.run("key", "destroy", "acme", former, "--json")
        # The emulator takes the call once more, and counts anew; KMS refuses it, and keeps the date.
        assert (again.status, again.document["deletes_at"][:10]) == (0, done.document["deletes_at"][:10]), (
            again
        )
        await scene.assert_moved(acme.naming(key_arn=rotated.key.arn))

        await scene.admit(overtaking("revoke", REVOKE))
        await ledger.until_state(REVOKE, "completed")
        await unreadable(scene, acme)
        await scene.admit(overtaking("reinstate", "acme-reinstate-1", undoes=REVOKE))
        await ledger.until_state("acme-reinstate-1", "completed")
        await scene.assert_moved(acme.naming(key_arn=rotated.key.arn))
        states = {key["arn"]: key["state"] for key in await scene.ask("key", "list", "acme")}
        assert states == {migrated.key.arn: "destroyed", rotated.key.arn: "active"}
    await scene.assert_audit_whole()


async def write_under_former(scene: Scene, tenant: Tenant, key_arn: str) -> str:
    """The bucket's policy denies that: somebody takes it away for a moment. Gives the object's key."""
    s3, bucket, key = scene.clients.s3, tenant.target.bucket, f"{tenant.target.prefix}late"
    policy = (await s3.get_bucket_policy(Bucket=bucket))["Policy"]
    await s3.delete_bucket_policy(Bucket=bucket)
    await s3.put_object(
        Bucket=bucket, Key=key, Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId=key_arn
    )
    await s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    return key
