"""A tenant's data read again, against the evidence: what is intact, what its writers changed, and what broke."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.custody.pem_signing import PemSigner
from rekeyd.domain.audit import canonical_json
from rekeyd.domain.certificate import CERTIFICATE_SCHEMA, certificate_of, evidence_key
from rekeyd.domain.errors import AccessDeniedError, RefusedError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Encryption
from rekeyd.domain.signed import unverified_statement, utf8
from rekeyd.jobs.endings import Completed, Failed
from rekeyd.jobs.lineage import compared_with
from rekeyd.jobs.verify_again import Reverification, ending_of, verify_again
from rekeyd.stores.memory.shelf import Stored
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import TARGET_BUCKET, TENANT, Data, Process, World


async def moved(process: Process) -> None:
    job = await process.move()
    assert job.state == "completed", job.error


async def again(process: Process) -> Reverification:
    texts = await process.direct.tenant_certificates(TENANT, 100)
    return await verify_again(process.tools, compared_with([certificate_of(text) for text in texts]))


def stored(world: World, key: str) -> Stored:
    return world.target_shelf.buckets[TARGET_BUCKET].objects[key]


def break_bytes(world: World, key: str, data: bytes) -> None:
    """The store loses its grip on the bytes: the same copy, by all that it says, with others in it."""
    objects = world.target_shelf.buckets[TARGET_BUCKET].objects
    chain = objects._chains[key]
    chain[-1] = replace(chain[-1], data=data)


@pytest.fixture
async def process(world: World) -> AsyncIterator[Process]:
    world.fill()
    async with world.process() as process:
        await moved(process)
        yield process


async def test_data_that_nobody_touched_are_intact(process: Process) -> None:
    found = await again(process)

    assert found.copies == {"intact": 6}
    assert (found.other_keys, found.evidence_fault) == (0, None)
    assert ending_of(found) == Completed(None)


async def test_what_writers_replaced_or_deleted_is_reported_and_fails_nothing(
    world: World, process: Process
) -> None:
    under = Encryption("aws:kms", world.key.arn)
    world.put_into(world.target_shelf, TARGET_BUCKET, "a/small", Data(b"SMALL"), under)
    world.put_into(world.target_shelf, TARGET_BUCKET, "z", Data(b"longer than before"), under)
    world.put_into(world.target_shelf, TARGET_BUCKET, "new", Data(b"a new object"), under)
    del world.target_shelf.buckets[TARGET_BUCKET].objects["a/empty"]

    found = await again(process)

    assert found.copies == {"intact": 3, "changed": 2, "missing": 1}
    assert (sorted(found.shown["changed"]), found.shown["missing"]) == (["a/small", "z"], ["a/empty"])
    ending = ending_of(found)
    assert isinstance(ending, Completed)
    assert ending.remark == "of what was certified: 2 changed, 3 intact, 1 missing"


async def test_the_same_bytes_written_again_are_intact_under_whatever_key(
    world: World, process: Process
) -> None:
    world.use_another_key()
    under = Encryption("aws:kms", world.key.arn)
    world.put_into(world.target_shelf, TARGET_BUCKET, "a/small", Data(b"small"), under)

    found = await again(process)

    assert found.copies == {"intact": 6}
    assert found.other_keys == 1


@pytest.mark.parametrize("data", [b"SMALL", b"short", b"", b"much longer"])
async def test_other_bytes_in_the_copy_that_was_certified_are_damage(
    world: World, process: Process, data: bytes
) -> None:
    break_bytes(world, "a/small", data)

    found = await again(process)

    assert found.copies == {"intact": 5, "damaged": 1}
    ending = ending_of(found)
    assert isinstance(ending, Failed)
    assert "'a/small'" in ending.error


async def test_every_byte_of_a_large_copy_is_read(world: World, process: Process) -> None:
    data = stored(world, "c/6 MiB").data
    break_bytes(world, "c/6 MiB", data[:-1] + bytes([data[-1] ^ 1]))

    assert (await again(process)).copies["damaged"] == 1


@pytest.mark.parametrize("how", ["changed", "shortened", "gone", "foreign"])
async def test_evidence_that_is_not_what_was_certified_is_said_to_be_so(
    world: World, process: Process, how: str
) -> None:
    key = evidence_key("job-1", 0)
    data = stored(world, key).data
    if how == "gone":
        del world.target_shelf.buckets[TARGET_BUCKET].objects[key]
    else:
        first, rest = data.split(b"\n", 1)
        said = {
            "changed": data.replace(b'"outcome":"deleted"', b'"outcome":"excluded"', 1),
            "shortened": rest,
            "foreign": first.replace(b'"crc64nvme":"', b'"crc64nvme":"!') + b"\n" + rest,
        }
        break_bytes(world, key, said[how])

    found = await again(process)

    assert found.evidence_fault is not None
    assert isinstance(ending_of(found), Failed)


async def test_a_store_that_refuses_us_is_no_finding(world: World, process: Process) -> None:
    world.script.on("read", bucket=TARGET_BUCKET, key="a/small").fails(AccessDeniedError)

    with pytest.raises(AccessDeniedError):
        await again(process)


async def test_each_version_of_a_history_is_compared(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put_versions("kept", Data(b"first"), None, Data(b"third"))
    async with world.process() as process:
        await moved(process)
        assert (await again(process)).copies == {"intact": 2}

        objects = world.target_shelf.buckets[TARGET_BUCKET].objects
        world.put_into(
            world.target_shelf, TARGET_BUCKET, "kept", Data(b"4th"), Encryption("aws:kms", world.key.arn)
        )
        assert (await again(process)).copies == {"intact": 2}, "a newer version takes nothing away"
        objects.drop("kept", objects.chain("kept")[0].version_id)
        assert (await again(process)).copies == {"intact": 1, "missing": 1}


async def test_what_a_verify_job_found_is_on_record(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await moved(process)
        await world.verify_again(process.direct, "verify-1")
        done = await process.work("verify-1")

        assert (done.state, done.phase, done.error) == ("completed", "done", None)
        assert done.result is not None
        assert (done.result["certificate"], done.result["copies"]) == ("job-1", {"intact": 6})
        (record,) = await world.records(process.direct, "data.verified_again")
        assert record["job"] == "verify-1"

        break_bytes(world, "a/small", b"SMALL")
        await world.verify_again(process.direct, "verify-2")
        failed = await process.work("verify-2")
        assert failed.state == "failed"
        assert "'a/small'" in (failed.error or "")


async def test_a_tenant_that_is_not_dedicated_or_revoked_is_not_verified(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await world.admit(process.direct)
        with pytest.raises(RefusedError, match="is shared"):
            await world.verify_again(process.direct, "verify-1")
        await process.work()
        await world.revoke(process.direct)
        with pytest.raises(RefusedError, match="is revoked"):
            await world.verify_again(process.direct, "verify-1")


async def test_a_key_that_is_disabled_holds_the_verification(world: World) -> None:
    world.fill()
    async with world.process() as process:
        await moved(process)
        world.disable_key()
        await world.verify_again(process.direct, "verify-1")
        held = await process.work("verify-1")
        assert (held.state, held.held_reason) == ("held", "key_disabled")


async def verified(world: World, process: Process) -> Job:
    await world.verify_again(process.direct, "verify-1")
    return await process.work("verify-1")


async def test_a_certificate_that_the_signing_key_of_before_has_signed_counts_where_that_is_named(
    world: World, process: Process
) -> None:
    former = await world.signer.public_key()
    world.signer = PemSigner(Ed25519PrivateKey.generate())
    async with world.process() as later:
        job = await verified(world, later)
        assert job.state == "failed"
        assert former.fingerprint in (job.error or "")
        world.former_signers = (former,)
    async with world.process() as later:
        await later.direct.resume_job("verify-1", "an operator")
        assert (await later.work("verify-1")).state == "completed"


async def test_a_certificate_that_somebody_changed_in_the_ledger_fails(
    world: World, process: Process
) -> None:
    (text,) = await process.direct.tenant_certificates(TENANT, 100)
    statement, signature = unverified_statement(utf8(text), CERTIFICATE_SCHEMA)
    changed = canonical_json({"statement": statement | {"rekeyd": "9.9.9"}, "signature": signature})
    await world._sql(f"UPDATE certificates SET text = '{changed}'")  # noqa: S608
    job = await verified(world, process)
    assert (job.state, job.result) == ("failed", None)
    assert "isn't what was signed: signature_wrong: job-1" in (job.error or "")
