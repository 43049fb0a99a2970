"""Keys that tenants bring, wrapped for us or for the key service itself, in the stories of their jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rekeyd.domain.custody import Errand, KeyHome, OfferAnswer
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import read_job_message
from rekeyd.domain.key import AcceptedKey, WrappedKey
from rekeyd.domain.objects import Location
from tests.contract.custodies import new_secret, unwrapper, wrapped, wrapped_for, wrapped_unchecked
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import FINAL, SOURCE, TARGET_BUCKET, TENANT, Process, World

IMPORT = "kms:ImportKeyMaterial"


def bringing(world: World, key: WrappedKey | None = None) -> WrappedKey:
    """The tenant of this world brings a key, wrapped."""
    world.custody.unwrapper = unwrapper()
    world.brings = key or wrapped(new_secret())
    assert isinstance(world.brings, WrappedKey)
    return world.brings


async def accepted(world: World, process: Process) -> AcceptedKey:
    """A key of the tenant's that was imported as `key offer` and `key accept` do it."""
    errand, home = Errand(TENANT, "key accept"), KeyHome(world.region, TARGET_BUCKET)
    offer = await world.custody.offer(errand, home)
    answer = OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, new_secret()))
    brought = await world.custody.accept(errand, answer)
    await process.direct.record_accepted(TENANT, "ann", brought)
    return AcceptedKey(kind="accepted", ref=offer.ref)


def kept_bytes(world: World) -> bytes:
    """All that the ledger has on the disk, its log included."""
    files = sorted(world.ledger_path.parent.glob(f"{world.ledger_path.name}*"))
    return b"".join(Path(file).read_bytes() for file in files)


def blob(key: WrappedKey) -> bytes:
    """A part of what was wrapped that is in one piece wherever it is kept."""
    return key.wrapped_key[:64].encode()


async def outcome(process: Process, job_id: str = "job-1") -> tuple[str, str | None, str]:
    job = await process.direct.job(job_id)
    return job.state, job.held_reason, job.error or ""


async def test_what_a_tenant_wrapped_is_the_key_of_its_data(make_world: MakeWorld) -> None:
    world = make_world()
    objects, key = world.fill(), bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")

        await world.assert_moved(process.direct, objects)
        job = await process.direct.job("job-1")
        assert (job.key_ref, job.key.arn) == (f"sha256:{key.fingerprint}", world.key_arn)
        (known,) = await process.direct.tenant_keys(TENANT)
        assert (known.kind, known.state, known.arn, known.fingerprint) == (
            "wrapped",
            "active",
            world.key_arn,
            key.fingerprint,
        )
        certificate = json.loads(await process.direct.certificate("job-1") or "")
        assert key.fingerprint in json.dumps(certificate)


async def test_the_import_is_on_record_with_its_requests(make_world: MakeWorld) -> None:
    world = make_world()
    key = bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")

        (record,) = await world.records(process.direct, "key.imported")
    assert (record["key"], record["fingerprint"]) == (f"sha256:{key.fingerprint}", key.fingerprint)
    operations = [request["operation"] for request in record["requests"]]
    assert operations[0] == "kms:CreateKey"
    assert IMPORT in operations
    assert all(request["request_id"] for request in record["requests"])


async def test_what_was_wrapped_is_in_no_file_of_the_ledger_after_the_import(make_world: MakeWorld) -> None:
    world = make_world()
    key = bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        assert blob(key) in kept_bytes(world)

        await process.work("job-1")

        assert (await process.direct.job("job-1")).state == "completed"
        assert blob(key) not in kept_bytes(world)
    assert blob(key) not in kept_bytes(world)


@pytest.mark.parametrize("lost", ["kms:CreateKey", IMPORT, "kms:CreateAlias"])
async def test_an_import_whose_answer_is_lost_is_repeated_and_makes_nothing_twice(
    make_world: MakeWorld, lost: str
) -> None:
    world = make_world()
    objects = world.fill()
    bringing(world)
    world.custody.dies_after = lost
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")
        assert (await outcome(process))[:2] == ("held", "custody_unavailable")
        assert TARGET_BUCKET not in world.target_shelf.buckets

        await world.make_due()
        await process.work("job-1", until=FINAL)

        await world.assert_moved(process.direct, objects)
    assert sum(key.imported for key in world.custody.keys.values()) == 1
    assert len(world.custody.keys) == 2  # the tenant's, and the one of the world's own


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (wrapped_unchecked(new_secret(), digest_of=b"other"), "key.sha256"),
        (wrapped_unchecked(b"7" * 32), "holds no usable key"),
        (wrapped_unchecked(new_secret()[:31]), "holds no usable key"),
    ],
    ids=["wrong hash", "weak", "too short"],
)
async def test_what_can_not_become_a_key_fails_the_job_before_anything_is_made(
    make_world: MakeWorld, sent: WrappedKey, words: str
) -> None:
    world = make_world()
    objects = world.fill()
    bringing(world, sent)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")

        state, _, error = await outcome(process)
        assert state == "failed"
        assert words in error
        (record,) = await world.records(process.direct, "key.refused")
        assert record["outcome"] == "refused"
        assert len(world.custody.keys) == 1
        assert TARGET_BUCKET not in world.target_shelf.buckets
        assert sorted(world.in_source()) == sorted(objects)
        assert blob(sent) not in kept_bytes(world)

        await process.direct.resume_job("job-1", "ann")
        await process.work("job-1")
        assert "bring it with another job" in (await outcome(process))[2]


async def test_a_fingerprint_belongs_to_one_tenant(make_world: MakeWorld) -> None:
    world = make_world()
    key = bringing(world)
    others = {
        "schema": "rekeyd.job/1",
        "id": "theirs",
        "kind": "migrate",
        "tenant": "other",
        "source": "s3://shared/tenants/other/",
        "key": key.model_dump(exclude_none=True),
    }
    async with world.process() as process:
        await world.admit(process.direct)
        received = read_job_message(json.dumps(others).encode())
        source, target = Location.parse("s3://shared/tenants/other/"), Location.parse("s4://byok-other/")

        with pytest.raises(RefusedError, match="key: belongs to another tenant"):
            await process.direct.admit(received, source, target, 0, "upstream")

        (record,) = await world.records(process.direct, "job.refused")
        assert record["tenant"] == "other"


async def test_a_message_without_what_was_wrapped_is_the_same_job_still(make_world: MakeWorld) -> None:
    world = make_world()
    bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        received = read_job_message(world.message())

        again = await process.direct.admit(received, SOURCE, world.target, 0, "upstream")

        assert not again.created


async def test_a_cancelled_job_leaves_nothing_of_what_was_wrapped(make_world: MakeWorld) -> None:
    world = make_world()
    key = bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.direct.cancel_job("job-1", "ann")

        assert blob(key) not in kept_bytes(world)


async def test_a_revocation_leaves_nothing_of_what_was_wrapped(make_world: MakeWorld) -> None:
    world = make_world()
    key = bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await world.revoke(process.direct)
        await process.work("revoke-1")

        assert blob(key) not in kept_bytes(world)
        assert (await outcome(process))[:2] == ("held", "revoked")


async def test_a_key_that_nobody_here_ever_held_is_the_key_of_the_data(make_world: MakeWorld) -> None:
    world = make_world()
    objects = world.fill()
    async with world.process() as process:
        world.brings = await accepted(world, process)
        await world.admit(process.direct)
        await process.work("job-1")

        await world.assert_moved(process.direct, objects)
        (known,) = await process.direct.tenant_keys(TENANT)
        assert known.fingerprint is not None
        assert known.fingerprint.startswith("kms:")


async def test_an_accepted_key_that_nobody_accepted_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    world.brings = AcceptedKey(kind="accepted", ref="arn:aws:kms:us-east-1:111122223333:key/never")
    async with world.process() as process:
        with pytest.raises(RefusedError, match=r"key\.ref: is no key that was accepted"):
            await world.admit(process.direct)


async def test_an_imported_key_isn_t_named_as_if_it_were_the_tenants_own(make_world: MakeWorld) -> None:
    world = make_world()
    bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")
        arn = world.key_arn
        own = {"kind": "kms", "arn": arn, "alias": f"{arn.partition(':key/')[0]}:alias/acme"}

        with pytest.raises(RefusedError, match="key: was brought as sha256:"):
            await process.direct.admit_tenant_job(rotation("rotate-1", own), "upstream")


def rotation(job_id: str, key: dict[str, Any]) -> Any:  # noqa: ANN401 - passed on
    body = {"schema": "rekeyd.job/1", "id": job_id, "kind": "rotate", "tenant": TENANT, "key": key}
    return read_job_message(json.dumps(body).encode())


async def test_data_are_rotated_to_a_key_that_is_brought_and_the_alias_follows(make_world: MakeWorld) -> None:
    world = make_world()
    objects, first = world.fill(), bringing(world)
    async with world.process() as process:
        await world.admit(process.direct)
        await process.work("job-1")
        former_arn = world.key_arn
        second = bringing(world)
        await world.rotate(process.direct, key=second)
        await process.work("rotate-1")

        assert (await outcome(process, "rotate-1"))[0] == "completed"
        assert sorted(world.in_target()) == sorted(objects)  # all under the second key, or it raises
        keys = {key.ref: key.state for key in await process.direct.tenant_keys(TENANT)}
        assert keys == {f"sha256:{first.fingerprint}": "archived", f"sha256:{second.fingerprint}": "active"}
        (pointed,) = await world.records(process.direct, "alias.pointed")
        assert (pointed["former_key"], pointed["key"]) == (former_arn, world.key_arn)
        assert world.custody.keys[former_arn].state == "Enabled"


async def destroyed(world: World, process: Process) -> None:
    """The tenant's key is destroyed, with another person's word."""
    await world.admit(process.direct)
    await process.work("job-1")
    await world.revoke(process.direct, mode="destroy")
    await process.work("revoke-1")
    await process.direct.approve_job("revoke-1", "somebody else")
    await process.work("revoke-1", until=FINAL)
    assert (await outcome(process, "revoke-1"))[0] == "completed"
    assert world.custody.keys[world.key_arn].state == "PendingImport"


async def test_after_a_destruction_the_same_material_brings_everything_back(make_world: MakeWorld) -> None:
    world, secret = make_world(), new_secret()
    objects = world.fill()
    bringing(world, wrapped(secret))
    async with world.process() as process:
        await destroyed(world, process)
        again = wrapped(secret)
        await world.reinstate(process.direct, key=again)
        await process.work("reinstate-1")

        assert (await outcome(process, "reinstate-1"))[0] == "completed"
        assert sorted(world.in_target()) == sorted(objects)
        assert await world.key_state(process.direct) == "active"
        assert world.custody.keys[world.key_arn].state == "Enabled"
        assert blob(again) not in kept_bytes(world)


async def test_after_a_destruction_other_material_is_refused(make_world: MakeWorld) -> None:
    world = make_world()
    bringing(world)
    async with world.process() as process:
        await destroyed(world, process)

        with pytest.raises(RefusedError, match="key: is none of the tenant's"):
            await world.reinstate(process.direct, key=wrapped(new_secret()))


async def test_after_a_destruction_a_reinstatement_without_it_says_what_to_bring(
    make_world: MakeWorld,
) -> None:
    world, secret = make_world(), new_secret()
    bringing(world, wrapped(secret))
    async with world.process() as process:
        await destroyed(world, process)
        await world.reinstate(process.direct)
        await process.work("reinstate-1")

        state, reason, error = await outcome(process, "reinstate-1")
        assert (state, reason) == ("held", "key_unusable")
        assert "bring the same again" in error
        await world.reinstate(process.direct, "reinstate-2", key=wrapped(secret))
        await process.work("reinstate-2", until=FINAL)
        assert (await outcome(process, "reinstate-2"))[0] == "completed"


async def test_what_was_destroyed_is_not_brought_back_by_another_job(make_world: MakeWorld) -> None:
    world, secret = make_world(), new_secret()
    bringing(world, wrapped(secret))
    async with world.process() as process:
        await destroyed(world, process)

        with pytest.raises(RefusedError, match="revoked"):
            await world.rotate(process.direct, key=wrapped(secret))
        assert world.custody.keys[world.key_arn].state == "PendingImport"
