"""The certificate that a job ends with: what it says, that it holds, and that there is exactly one of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd import __version__
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.domain.certificate import certificate_key, check_proof, evidence_key
from rekeyd.domain.errors import CustodyError, UnavailableError
from rekeyd.domain.objects import Attributes, Encryption, ObjectLock
from rekeyd.domain.signed import PublicKey, utf8
from rekeyd.jobs import evidence
from rekeyd.jobs.evidence_reading import prove_object
from rekeyd.stores.memory.shelf import Begun
from rekeyd.stores.port import Upload
from tests.doubles.mortal import Life
from tests.jobs.certified import assert_certified, evidence_lines, kept, leaves_of
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_crash import live_once
from tests.jobs.world import FINAL, SOURCE, TARGET_BUCKET, TENANT, Data, Process, World, eventually


async def test_a_certificate_says_whose_what_and_where(world: World) -> None:
    expected = world.fill()
    async with world.process() as process:
        await world.admit(process.direct, fields={"requested_by": "maria"})
        job = await process.work()
        certificate = await assert_certified(world, process.direct)
        record, _ = await process.direct.placement(TENANT)

    assert record is not None
    size_bytes = sum(len(data.content) for data in expected.values())
    assert (certificate.tenant, certificate.source, certificate.target) == (
        TENANT,
        str(SOURCE),
        str(world.target),
    )
    assert (certificate.job.id, certificate.job.kind, certificate.job.requested_by) == (
        "job-1",
        "migrate",
        "maria",
    )
    assert certificate.job.started_at is not None
    assert certificate.key.reference == world.key.arn
    assert (certificate.placement.phase, certificate.placement.epoch) == ("dedicated", record.epoch)
    assert (certificate.total.objects, certificate.total.bytes) == (len(expected), size_bytes)
    assert certificate.outcomes == {"deleted": certificate.total}
    assert certificate.remaining is not None
    assert certificate.remaining.found.objects == 0
    assert (certificate.rekeyd, job.error) == (__version__, None)
    assert certificate.job.created_at <= certificate.job.started_at < certificate.certified_at


async def test_the_evidence_of_an_object_names_both_copies_and_the_request_that_deleted_one(
    world: World,
) -> None:
    world.fill()
    async with world.process() as process:
        await process.move()
        certificate = await assert_certified(world, process.direct)
        deleted = await world.records(process.direct, "source.deleted")
    leaf = leaves_of(world, certificate)["a/small"]

    (version,) = leaf.versions
    copy = world.target_shelf.buckets[TARGET_BUCKET].objects["a/small"]
    assert (leaf.key, leaf.target_key, leaf.outcome) == (SOURCE.prefix + "a/small", "a/small", "deleted")
    assert version.target is not None
    assert (version.target.etag, version.target.size_bytes) == (copy.etag, 5)
    assert version.encryption_key == world.key.arn
    assert (version.source.checksum_origin, version.target.checksum_origin) == (
        "streamed",
        "read",
    )
    assert version.source.crc64nvme == version.target.crc64nvme
    assert leaf.delete_requests
    assert set(leaf.delete_requests) <= {each for record in deleted for each in record["requests"]}


async def test_a_history_has_evidence_of_every_version_and_marker(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put_versions("kept", Data(b"first"), None, Data(b"third"))
    async with world.process() as process:
        await process.move()
        certificate = await assert_certified(world, process.direct)
    (leaf,) = leaves_of(world, certificate).values()

    assert [version.marker for version in leaf.versions] == [False, True, False]
    copies = [version.target for version in leaf.versions]
    chain = world.target_shelf.buckets[TARGET_BUCKET].objects.chain("kept")
    assert [copy and copy.version_id for copy in copies] == [stored.version_id for stored in chain]
    assert [version.encryption_key for version in leaf.versions] == [world.key.arn, None, world.key.arn]
    assert (certificate.total.versions, certificate.total.bytes) == (3, 10)


async def test_what_remains_is_said_and_until_when(make_world: MakeWorld) -> None:
    world = make_world(versioned=True, object_lock=True)
    until = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    text = until.isoformat().replace("+00:00", "Z")
    world.put("locked", Data(b"locked", Attributes(lock=ObjectLock("GOVERNANCE", text))))
    world.put("held", Data(b"held", Attributes(lock=ObjectLock(legal_hold=True))))
    world.put("moved", Data(b"moved"))
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        await to_grace(process)
    # A writer that nobody told: after the switch it puts into the source.
    world.put("late", Data(b"late"))
    upload = Upload(SOURCE.bucket, SOURCE.prefix + "unfinished", "upload-1")
    world.shelf.uploads["upload-1"] = Begun(upload, Attributes(), Encryption("AES256"))
    await world.rewind(4000)
    async with world.process("after the grace") as process:
        job = await process.work()
        certificate = await assert_certified(world, process.direct)

    remaining = certificate.remaining
    assert remaining is not None
    assert (remaining.kept, remaining.locked, remaining.locked_until) == (2, 2, text)
    by_key = {each.key.removeprefix(SOURCE.prefix): each for each in remaining.kept_shown}
    assert (by_key["locked"].until, by_key["held"].until) == (text, None)
    assert "legal hold" in by_key["held"].reason
    assert (remaining.found.objects, remaining.unknown) == (3, 1)
    found = {each.key.removeprefix(SOURCE.prefix): each.known_as for each in remaining.found_shown}
    assert found == {"held": "remaining", "locked": "remaining", "late": None}
    assert [each.key for each in remaining.uploads_shown] == [SOURCE.prefix + "unfinished"]
    assert job.error is not None
    assert "3 objects" in job.error
    assert "1 unfinished uploads" in job.error


async def test_evidence_is_cut_into_files_of_bounded_size_and_rows_are_read_some_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE_FILE_BYTES_MAX", 2000)
    monkeypatch.setattr(evidence, "ROWS_READ_MAX", 3)
    world.fill({f"{number:03d}": Data(b"x" * number) for number in range(20)})
    async with world.process() as process:
        await process.move()
        calls = process.life.calls.count("ledger.evidence_rows")
        certificate = await assert_certified(world, process.direct)

    files = [kept(world, evidence_key("job-1", number)) for number in range(certificate.evidence.files)]
    assert len(files) > 2
    assert all(len(file) <= 2000 for file in files)
    assert calls == 7
    keys = [json.loads(line)["key"] for line in evidence_lines(world, certificate)]
    assert keys == sorted(keys)


async def test_each_object_can_be_proven_by_its_name_on_either_side(world: World) -> None:
    expected = world.fill()
    async with world.process() as process:
        await process.move()
        certificate = await assert_certified(world, process.direct)
        target = process.tools.store_of(world.target).objects
        for name in expected:
            for key in (name, SOURCE.prefix + name):
                proof = await prove_object(target, certificate, key)
                assert proof is not None
                assert check_proof(certificate, utf8(proof)).target_key == name
        assert await prove_object(target, certificate, "nobody") is None


async def test_a_move_of_nothing_is_certified_too(world: World) -> None:
    async with world.process() as process:
        job = await process.move()
        certificate = await assert_certified(world, process.direct)
    assert job.state == "completed"
    assert (certificate.total.objects, certificate.evidence.files) == (0, 0)


async def test_a_death_at_any_call_of_the_chapter_leaves_one_certificate(make_world: MakeWorld) -> None:
    def begin(world: World) -> None:
        world.fill({"a": Data(b"a"), "b": Data(b"b")})

    first = make_world()
    begin(first)
    life = Life()
    await live_once(first, life, "daemon-1")
    chapter = life.calls.index("ledger.certificate")
    calls = range(chapter, len(life.calls) + 1)
    assert {"put", "ledger.record_certificate", "ledger.evidence_rows"} <= set(life.calls[chapter:])
    # To die after a call, before anybody has its answer, is also to die before the next one.
    waiting = iter(calls)

    async def work() -> None:
        for at in waiting:
            world = make_world()
            begin(world)
            await live_once(world, Life(at, "after"), f"daemon-{at}")
            async with world.process("the last one") as process:
                if (await process.direct.job("job-1")).state not in FINAL:
                    await process.work()
                await world.assert_moved(process.direct, {"a": Data(b"a"), "b": Data(b"b")})
                await assert_certified(world, process.direct)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(work())


async def test_a_lost_answer_is_settled_by_reading(world: World) -> None:
    world.fill({"a": Data(b"a")})
    for key in (evidence_key("job-1", 0), certificate_key("job-1")):
        world.script.on("put", key=key).loses_answer(UnavailableError)
    async with world.process() as process:
        await process.move()
        await assert_certified(world, process.direct)


async def test_evidence_of_a_former_attempt_is_written_over(world: World) -> None:
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        await to_grace(process)
    put_own(world, evidence_key("job-1", 0), b"half of it")
    await world.rewind(4000)
    async with world.process("after the grace") as process:
        await process.work()
        await assert_certified(world, process.direct)


async def test_a_certificate_that_the_ledger_has_forgotten_is_taken_over_from_the_target(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        text = await process.direct.certificate("job-1")
    await world._sql(
        "DELETE FROM certificates",
        "UPDATE jobs SET state = 'queued', phase = 'queued', finished_at = NULL, due_at = 0",
    )
    async with world.process("after the restore") as process:
        assert (await process.work()).state == "completed"
        assert await process.direct.certificate("job-1") == text


@pytest.mark.parametrize("whose", ["nobody's", "another signer's", "another job's"])
async def test_a_foreign_certificate_is_a_conflict_and_stays(make_world: MakeWorld, whose: str) -> None:
    world = make_world()
    world.fill({"a": Data(b"a")})
    foreign = b"{}"
    if whose != "nobody's":
        other = make_world()
        if whose == "another job's":
            other.signer = world.signer
        async with other.process() as process:
            await other.admit(process.direct, "job-2" if whose == "another job's" else "job-1")
            await process.work("job-2" if whose == "another job's" else "job-1")
            (found,) = await process.direct.tenant_certificates(TENANT, 1)
            foreign = utf8(found)
    async with world.process() as process:
        await world.admit(process.direct, grace_seconds=3600)
        await to_grace(process)
    put_own(world, certificate_key("job-1"), foreign)
    await world.rewind(4000)
    async with world.process("after the grace") as process:
        job = await process.work()
        assert (job.state, job.held_reason) == ("held", "conflict")
        assert await process.direct.certificate("job-1") is None
    assert world.target_shelf.buckets[TARGET_BUCKET].objects[certificate_key("job-1")].data == foreign


class NoSigner:
    """A key service that is away."""

    async def public_key(self) -> PublicKey:
        raise CustodyError("kms:GetPublicKey: no answer")

    async def sign(self, data: bytes) -> bytes:
        raise CustodyError("kms:Sign: no answer")


async def test_a_signing_key_out_of_reach_holds_the_job_until_it_is_back(world: World) -> None:
    expected = world.fill({"a": Data(b"a")})
    signer, world.signer = world.signer, NoSigner()
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "custody_unavailable")
    world.signer = signer
    await world.make_due()
    async with world.process("later") as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)
        await assert_certified(world, process.direct)


async def test_a_key_switched_off_before_the_evidence_holds_the_job(world: World) -> None:
    expected = world.fill({"a": Data(b"a")})
    world.script.on("put", key=evidence_key("job-1", 0)).first(world.disable_key)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "key_disabled")
        assert await process.direct.certificate("job-1") is None
    world.enable_key()
    await world.make_due()
    async with world.process("later") as process:
        await process.work(until=FINAL)
        await world.assert_moved(process.direct, expected)
        await assert_certified(world, process.direct)


async def test_a_target_that_takes_no_evidence_gives_no_certificate(world: World) -> None:
    world.fill({"a": Data(b"a")})
    world.script.always("put", key=evidence_key("job-1", 0)).fails(UnavailableError)
    async with world.process() as process:
        job = await process.move()
        assert (job.state, job.held_reason) == ("held", "store_unavailable")
        assert await process.direct.certificate("job-1") is None


async def test_a_later_job_of_the_same_move_has_a_certificate_of_its_own(world: World) -> None:
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        await world.admit(process.direct, "job-2")
    async with world.process("later") as process:
        await process.work("job-2")
        first = await assert_certified(world, process.direct)
        second = await assert_certified(world, process.direct, "job-2")
        former, latest = await process.direct.tenant_certificates(TENANT, 10)
    assert first.evidence.root == second.evidence.root
    assert [json.loads(each)["statement"]["job"]["id"] for each in (former, latest)] == ["job-1", "job-2"]


async def test_another_signing_key_later_changes_no_certificate(world: World) -> None:
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        text = await process.direct.certificate("job-1")
    former, world.signer = world.signer, PemSigner(Ed25519PrivateKey.generate())
    async with world.process("later") as process:
        assert await process.direct.certificate("job-1") == text
        world.signer = former
        await assert_certified(world, process.direct)


async def to_grace(process: Process) -> None:
    """Work until the source is only being kept."""

    async def in_grace() -> bool:
        return (await process.direct.job("job-1")).phase == "grace"

    async with process.working():
        await eventually(in_grace)


def put_own(world: World, key: str, data: bytes) -> None:
    """Something stands in the target under a key of rekeyd's own."""
    under = Encryption("aws:kms", world.key.arn)
    world.put_into(world.target_shelf, TARGET_BUCKET, key, Data(data), under)
