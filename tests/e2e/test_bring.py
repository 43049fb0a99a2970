"""A tenant brings a key of its own making, on real servers, with nothing but the command: for us, and past us."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import cast

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.doubles.weather import Weather, fair
from tests.e2e.harness import Scene, Tenant, mixed_items, small_items
from tests.e2e.middle import FREE, PATIENT, WRITES, stalls_all_but_a_few
from tests.e2e.test_kills import JOB, SLOWLY
from tests.e2e.test_revoke import REVOKE, overtaking, unreadable
from tests.e2e.test_rotate import ROTATE

pytestmark = pytest.mark.asyncio(loop_scope="session")


def private_key_file(folder: Path) -> Path:
    """The vendor's wrapping key."""
    key = rsa.generate_private_key(65_537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "wrapping.pem"
    path.touch(0o600)
    path.write_bytes(pem)
    return path


async def wrapped(scene: Scene, key_file: Path) -> dict[str, object]:
    """What the tenant makes of its key with the vendor's public one."""
    public = scene.folder / "public.pem"
    public.write_text((await scene.run("key", "public")).printed)
    ran = await scene.run("key", "wrap", "--public-key", str(public), "--key-file", str(key_file))
    assert ran.status == 0, ran
    return dict(ran.document)


async def arn_of(scene: Scene, ref: object) -> str:
    (arn,) = [key["arn"] for key in await scene.ask("key", "list", "acme") if key["ref"] == ref]
    return str(arn)


async def assert_certified(scene: Scene, job_id: str, fingerprint: str) -> None:
    """The certificate names the key by its fingerprint, and holds, checked with files alone."""
    certificate, public = scene.folder / f"{job_id}.json", scene.folder / "signing.pem"
    certificate.write_text((await scene.run("certificate", job_id)).printed)
    public.write_text((await scene.run("certificate", "public-key")).printed)
    assert fingerprint in certificate.read_text()
    ran = await scene.run("certificate", "verify", str(certificate), "--public-key", str(public), "--json")
    assert (ran.status, ran.document["ok"]) == (0, True), ran


async def test_a_wrapped_key_from_the_tenants_file_to_rotation_revocation_and_back(scene: Scene) -> None:
    async with Weather.started(scene.sandbox.s3_endpoint) as weather:
        await scene.open(
            endpoint=weather.endpoint_url,
            limits=SLOWLY | PATIENT,
            custody__wrapping={"private_key_file": str(private_key_file(scene.folder))},
        )
        first, second = scene.folder / "first-key", scene.folder / "second-key"
        first.write_bytes(secrets.token_bytes(32))
        second.write_bytes(secrets.token_bytes(32))
        acme = await scene.tenant("acme", mixed_items(20))
        sent = await wrapped(scene, first)
        await scene.send(acme.message(key=sent))
        async with scene.serving(), scene.ledger() as ledger:
            migrated = await ledger.until_state(JOB, "completed")
            acme = acme.naming(key_arn=migrated.key.arn)
            await scene.assert_moved(acme)
            await assert_certified(scene, JOB, migrated.key_fingerprint or "")

            weather.forecast = stalls_all_but_a_few(acme.target, acme.loaded, WRITES)
            again = await wrapped(scene, second)
            rotating = {"schema": "rekeyd.job/1", "id": ROTATE, "kind": "rotate", "tenant": "acme"}
            await scene.send(rotating | {"key": again})
            rotated = await ledger.until_copying(ROTATE, verified_min=FREE)
            await scene.admit(overtaking("revoke", REVOKE))
            await ledger.until_state(ROTATE, "held")
            done = await ledger.until_state(REVOKE, "completed")
            assert done.result is not None
            assert list(dict(cast("dict[str, str]", done.result["keys"])).values()) == [
                "disabled",
                "disabled",
            ]
            for key_arn in (acme.key_arn, rotated.key.arn):
                described = await scene.clients.kms.describe_key(KeyId=key_arn)
                assert described["KeyMetadata"]["KeyState"] == "Disabled"
            await unreadable(scene, acme)

            weather.forecast = fair
            await scene.admit(overtaking("reinstate", "acme-reinstate-1", undoes=REVOKE))
            await ledger.until_state("acme-reinstate-1", "completed")
            await ledger.until_state(ROTATE, "completed")
            states = {key["arn"]: key["state"] for key in await scene.ask("key", "list", "acme")}
            assert states == {acme.key_arn: "archived", rotated.key.arn: "active"}
            await scene.assert_moved(acme.naming(key_arn=rotated.key.arn))
    await scene.assert_audit_whole()
    kept = b"".join(path.read_bytes() for path in scene.folder.glob("ledger.db*"))
    assert str(sent["wrapped_key"])[:64].encode() not in kept
    assert str(again["wrapped_key"])[:64].encode() not in kept


async def test_a_key_that_the_vendor_never_holds(scene: Scene) -> None:
    await scene.open()
    acme = await scene.tenant("acme", small_items(6))
    offered = await scene.run("key", "offer", "acme")
    assert offered.status == 0, offered
    offer, answer, secret = (scene.folder / name for name in ("offer.json", "answer.json", "my-key"))
    offer.write_text(offered.printed)
    secret.write_bytes(secrets.token_bytes(32))
    answered = await scene.run("key", "wrap", "--offer", str(offer), "--key-file", str(secret))
    answer.write_text(answered.printed)
    accepted = await scene.run("key", "accept", "acme", str(answer))
    assert accepted.status == 0, accepted
    assert accepted.document == {"kind": "accepted", "ref": offered.document["ref"]}
    refused = await scene.run("key", "accept", "another", str(answer))
    assert (refused.status, "another tenant" in refused.said) == (2, True), refused

    await scene.send(acme.message(key=accepted.document))
    async with scene.serving(), scene.ledger() as ledger:
        await ledger.until_state(JOB, "completed")
        await scene.assert_moved(acme.naming(key_arn=str(offered.document["ref"])))
        await scene.clients.kms.disable_key(KeyId=offered.document["ref"])
        with pytest.raises(ClientError):
            await read_one(scene, acme)
    assert secret.read_bytes() not in b"".join(path.read_bytes() for path in scene.folder.glob("ledger.db*"))
    await scene.assert_audit_whole()


async def read_one(scene: Scene, tenant: Tenant) -> bytes:
    name = next(iter(tenant.loaded)).removeprefix(tenant.source.prefix)
    answer = await scene.clients.s3.get_object(Bucket=tenant.target.bucket, Key=name)
    return bytes(await answer["Body"].read())


async def test_what_is_no_key_fails_its_job_and_says_what_to_do(scene: Scene) -> None:
    await scene.open(custody__wrapping={"private_key_file": str(private_key_file(scene.folder))})
    acme = await scene.tenant("acme", small_items(3))
    key_file = scene.folder / "my-key"
    key_file.write_bytes(secrets.token_bytes(32))
    sent = await wrapped(scene, key_file)
    key_file.write_bytes(secrets.token_bytes(32))
    other = await wrapped(scene, key_file)
    await scene.send(acme.message(key=sent | {"sha256": other["sha256"]}))
    async with scene.serving(), scene.ledger() as ledger:
        failed = await ledger.until_state(JOB, "failed")
        assert "key.sha256: is not the SHA-256 of what was wrapped" in (failed.error or "")
    await scene.assert_untouched(acme)
