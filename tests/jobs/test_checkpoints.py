"""Checkpoints: signed, chained, on record, written elsewhere too; and found out where they don't hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.cli.chains import TrailFinding, verify_trail
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.custody.signing import Signer
from rekeyd.domain.checkpoint import CHECKPOINT_SCHEMA, verify_checkpoint
from rekeyd.domain.errors import AccessDeniedError, UnavailableError
from rekeyd.domain.objects import Location
from rekeyd.domain.signed import NotHeldError, PublicKey
from rekeyd.jobs.checkpoints import Checkpoints, Elsewhere, make_checkpoint
from rekeyd.ledger.port import Checkpoint, Ledger
from tests.doubles.certificates import sign
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_certify import NoSigner
from tests.jobs.world import Data, Process, World, eventually

NEW_SIGNER = PemSigner(Ed25519PrivateKey.generate())
VAULT = Location.parse("s3://vault/checkpoints/")


async def some_work(world: World, process: Process) -> None:
    """Something goes on record."""
    jobs = await process.direct.jobs()
    await world.admit(process.direct, f"job-{len(jobs) + 1}")


async def keys_of(*signers: Signer) -> Mapping[str, PublicKey]:
    keys = [await signer.public_key() for signer in signers]
    return {key.fingerprint: key for key in keys}


async def verified(ledger: Ledger, *signers: Signer, outside: Sequence[str] = ()) -> TrailFinding:
    async def keys() -> Mapping[str, PublicKey]:
        return await keys_of(*signers)

    return await verify_trail(ledger, keys, outside)


def checkpoints(world: World, process: Process, elsewhere: Elsewhere | None = None) -> Checkpoints:
    return Checkpoints(
        process.direct,
        world.signer,
        "daemon-1",
        interval_seconds=0.02,
        elsewhere=elsewhere,
        call_seconds_max=5,
    )


def vault(world: World, process: Process) -> Elsewhere:
    world.shelf.make_bucket(VAULT.bucket, object_lock=True)
    return Elsewhere(process.tools.store_of(VAULT).objects, VAULT)


async def test_a_checkpoint_says_where_every_chain_stood_and_names_the_one_before_it(world: World) -> None:
    async with world.process() as process:
        ledger = process.direct
        assert not await make_checkpoint(ledger, world.signer, "daemon-1"), "there is nothing on record yet"
        await some_work(world, process)
        heads = await ledger.audit_heads()
        assert await make_checkpoint(ledger, world.signer, "daemon-1")
        await some_work(world, process)
        assert await make_checkpoint(ledger, world.signer, "daemon-1")

        first, second = await ledger.checkpoints(0, 10)
        keys = await keys_of(world.signer)
        assert verify_checkpoint(first.text, 1, None, keys).heads == heads
        assert verify_checkpoint(second.text, 2, first.text, keys).number == 2
        assert (await world.actions(ledger)).count("audit.checkpoint") == 2
        finding = await verified(ledger, world.signer)
        assert (finding.holds, finding.checkpoints) == (True, 2)


async def test_where_nothing_is_on_record_since_none_is_made(world: World) -> None:
    async with world.process() as process:
        await some_work(world, process)
        assert await make_checkpoint(process.direct, world.signer, "daemon-1")
        assert not await make_checkpoint(process.direct, world.signer, "daemon-1")
        assert not await make_checkpoint(process.direct, world.signer, "daemon-1")


async def test_of_two_daemons_that_make_one_at_the_same_time_one_does(world: World) -> None:
    async with world.process() as process, world.process("daemon-2") as other:
        await some_work(world, process)
        made = await asyncio.gather(
            *(make_checkpoint(each.direct, world.signer, each.name) for each in (process, other) * 3)
        )
        assert made.count(True) == 1
        assert (await verified(process.direct, world.signer)).holds


async def test_each_certificate_comes_with_a_checkpoint(world: World) -> None:
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        (checkpoint,) = await process.direct.checkpoints(0, 10)
        text = await process.direct.certificate("job-1")
        assert text is not None
        certified = json.loads(text)["statement"]["audit_heads"]["main"]
        stood = json.loads(checkpoint.text)["statement"]["heads"]["main"]
        # The record of the checkpoint itself lies between the two.
        assert certified[0] == stood[0] + 1


async def test_they_are_made_on_an_interval_until_cancelled(world: World) -> None:
    async with world.process() as process:
        running = asyncio.create_task(checkpoints(world, process).run())

        async def one() -> bool:
            return len(await process.direct.checkpoints(0, 10)) == 1

        async def two() -> bool:
            return len(await process.direct.checkpoints(0, 10)) == 2

        for made in (one, two):
            await some_work(world, process)
            await eventually(made)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_signing_key_out_of_reach_is_no_reason_to_stop(world: World) -> None:
    signer = world.signer
    async with world.process() as process:
        await some_work(world, process)
        world.signer = NoSigner()
        await checkpoints(world, process).round()
        assert await process.direct.last_checkpoint() is None
        world.signer = signer
        await checkpoints(world, process).round()
        assert await process.direct.last_checkpoint() is not None


async def test_they_are_written_elsewhere_too_each_once(world: World) -> None:
    async with world.process() as process:
        there = checkpoints(world, process, vault(world, process))
        for _ in range(2):
            await some_work(world, process)
            await there.round()
        await there.round()
        objects = world.shelf.buckets[VAULT.bucket].objects
        made = await process.direct.checkpoints(0, 10)
    assert {key: objects[key].data.decode() for key in objects} == {
        f"checkpoints/{number:012d}.json": made[number - 1].text for number in (1, 2)
    }
    assert all(len(objects.chain(key)) == 1 for key in objects)


@pytest.mark.parametrize("error", [UnavailableError, AccessDeniedError])
async def test_what_could_not_be_written_elsewhere_is_in_the_next_round(
    world: World, error: type[UnavailableError | AccessDeniedError]
) -> None:
    async with world.process() as process:
        there = checkpoints(world, process, vault(world, process))
        world.script.always("put", bucket=VAULT.bucket).fails(error)
        await some_work(world, process)
        await there.round()
        assert [each.number for each in await process.direct.unwritten_checkpoints(10)] == [1]
        world.script.clear()
        world.script.on("put", bucket=VAULT.bucket).loses_answer(UnavailableError)
        await there.round()
        await there.round()
        assert await process.direct.unwritten_checkpoints(10) == []
    assert list(world.shelf.buckets[VAULT.bucket].objects) == ["checkpoints/000000000001.json"]


async def test_another_ledgers_checkpoint_elsewhere_is_not_written_over(world: World) -> None:
    async with world.process() as process:
        there = checkpoints(world, process, vault(world, process))
        key = "checkpoints/000000000001.json"
        world.put_into(world.shelf, VAULT.bucket, key, Data(b"another's"))
        await some_work(world, process)
        await there.round()
        assert [each.number for each in await process.direct.unwritten_checkpoints(10)] == [1]
    assert world.shelf.buckets[VAULT.bucket].objects[key].data == b"another's"


# --- and where they don't hold ---


async def three(world: World, process: Process) -> list[Checkpoint]:
    for _ in range(3):
        await some_work(world, process)
        assert await make_checkpoint(process.direct, world.signer, "daemon-1")
    return list(await process.direct.checkpoints(0, 10))


@pytest.mark.parametrize(
    ("statements", "number", "words"),
    [
        (["DELETE FROM checkpoints WHERE number = 2"], 2, "is missing"),
        (["DELETE FROM checkpoints WHERE number = 3"], 3, "is on record, and missing"),
        (["DELETE FROM checkpoints"], 1, "is on record, and missing"),
        (
            ["UPDATE checkpoints SET text = replace(text, '\"number\":2', '\"number\":4') WHERE number = 2"],
            2,
            "signature_wrong",
        ),
        (["UPDATE checkpoints SET text = '{}' WHERE number = 1"], 1, "unreadable"),
        (
            [
                "UPDATE checkpoints SET text = (SELECT text FROM checkpoints WHERE number = 1) WHERE number = 2"
            ],
            2,
            "contradictory",
        ),
    ],
)
async def test_a_checkpoint_that_was_changed_or_taken_away_is_found(
    world: World, statements: list[str], number: int, words: str
) -> None:
    async with world.process() as process:
        await three(world, process)
        await world._sql(*statements)
        finding = await verified(process.direct, world.signer)
        assert not finding.holds
        assert finding.broken_checkpoint is not None
        assert finding.broken_checkpoint.number == number
        assert words in finding.broken_checkpoint.reason


async def test_a_trail_that_was_written_anew_is_found_by_its_checkpoints(world: World) -> None:
    async with world.process() as process:
        made = await three(world, process)
        # Whoever has the ledger can compute a chain that holds; the signed heads are another matter.
        heads = json.loads(made[0].text)["statement"]["heads"]["main"]
        statement = json.loads(made[0].text)["statement"] | {"heads": {"main": [heads[0], "ab" * 32]}}
        assert isinstance(world.signer, PemSigner)
        forged = sign(statement, world.signer._key)
        finding = await _with_text(process, replace(made[0], text=forged), world.signer)
        assert "isn't the one that the audit trail has on record" in finding
        other = PemSigner(Ed25519PrivateKey.generate())
        assert "other_signer" in await _with_text(process, made[0], other)


async def test_a_trail_that_was_made_anew_by_whoever_can_sign_is_found_by_checkpoints_kept_elsewhere(
    world: World, make_world: MakeWorld
) -> None:
    async with world.process() as process:
        kept = [each.text for each in await three(world, process)]
        assert (await verified(process.direct, world.signer, outside=kept)).holds
    anew = make_world()
    anew.signer = world.signer
    async with anew.process() as process:
        await three(anew, process)
        assert (await verified(process.direct, world.signer)).holds, "in itself it does"
        finding = await verified(process.direct, world.signer, outside=kept[1:2])
        assert finding.broken_checkpoint is not None
        assert (finding.broken_checkpoint.number, finding.checkpoints) == (2, 1)
        assert "isn't the one that was kept elsewhere" in finding.broken_checkpoint.reason


async def test_so_is_it_by_the_certificate_that_a_tenant_has(world: World, make_world: MakeWorld) -> None:
    world.fill({"a": Data(b"a")})
    async with world.process() as process:
        await process.move()
        kept = await process.direct.certificate("job-1") or ""
        assert (await verified(process.direct, world.signer, outside=[kept])).holds
    anew = make_world()
    anew.signer = world.signer
    async with anew.process() as process:
        await three(anew, process)
        finding = await verified(process.direct, world.signer, outside=[kept])
        assert (finding.holds, finding.broken_certificate) == (False, "job-1")
        with pytest.raises(NotHeldError, match="other_signer"):
            await verified(process.direct, NEW_SIGNER, outside=[kept])


async def test_a_checkpoint_that_was_kept_elsewhere_and_is_cut_off_here_is_found(world: World) -> None:
    async with world.process() as process:
        made = await three(world, process)
        statement = json.loads(made[2].text)["statement"] | {"number": 4}
        assert isinstance(world.signer, PemSigner)
        finding = await verified(
            process.direct, world.signer, outside=[made[0].text, sign(statement, world.signer._key)]
        )
        assert finding.broken_checkpoint is not None
        assert finding.broken_checkpoint.number == 4
        assert "was kept elsewhere, and is missing here" in finding.broken_checkpoint.reason


async def test_what_somebody_else_signed_is_no_checkpoint_that_was_kept(world: World) -> None:
    async with world.process() as process:
        made = await three(world, process)
        forged = sign(json.loads(made[0].text)["statement"], Ed25519PrivateKey.generate())
        with pytest.raises(NotHeldError, match="other_signer"):
            await verified(process.direct, world.signer, outside=[forged])


async def test_a_signed_head_that_the_trail_does_not_have_is_found(world: World) -> None:
    async with world.process() as process:
        await some_work(world, process)
        public_key = await world.signer.public_key()
        statement: dict[str, object] = {
            "schema": CHECKPOINT_SCHEMA,
            "number": 1,
            "at": "2026-01-31T12:00:00.000Z",
            "heads": {"main": [1, "ab" * 32]},
            "previous": "0" * 64,
            "signer": public_key.fingerprint,
        }
        assert isinstance(world.signer, PemSigner)
        assert await process.direct.record_checkpoint(
            Checkpoint(1, sign(statement, world.signer._key)), "a liar"
        )
        finding = await verified(process.direct, world.signer)
        assert finding.broken_checkpoint is not None
        assert "names a record that the audit trail doesn't have" in finding.broken_checkpoint.reason


async def _with_text(process: Process, checkpoint: Checkpoint, signer: Signer) -> str:
    text = checkpoint.text.replace("'", "''")
    await process.world._sql(f"UPDATE checkpoints SET text = '{text}' WHERE number = {checkpoint.number}")  # noqa: S608
    finding = await verified(process.direct, signer)
    assert finding.broken_checkpoint is not None
    return finding.broken_checkpoint.reason


async def test_a_new_signing_key_goes_on_and_both_are_needed_to_check(world: World) -> None:
    async with world.process() as process:
        await three(world, process)
        former, world.signer = world.signer, PemSigner(Ed25519PrivateKey.generate())
        await some_work(world, process)
        assert await make_checkpoint(process.direct, world.signer, "daemon-1")
        assert (await verified(process.direct, former, world.signer)).holds
        finding = await verified(process.direct, world.signer)
        assert finding.broken_checkpoint is not None
        assert finding.broken_checkpoint.number == 1
