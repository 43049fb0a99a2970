"""What custody/port.py promises of keys that tenants bring: in memory, on KMS's emulator, and on our double of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from uuid import uuid4

import pytest

from rekeyd.domain.custody import Errand, KeyHome, OfferAnswer, tenant_alias
from rekeyd.domain.errors import KeyRefusedError, KeyStateError, RefusedError
from rekeyd.domain.key import KmsKey, WrappedKey
from tests.contract.custodies import (
    HOME,
    MemoryWorld,
    World,
    double_world,
    emulator_world,
    errand,
    new_secret,
    our_key,
    wrapped,
    wrapped_for,
    wrapped_unchecked,
)
from tests.doubles.kms import rsa_key


@pytest.fixture(params=["memory", "ministack", "double"])
def opened(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[World]:
    if request.param == "memory":
        return nullcontext(MemoryWorld())
    if request.param == "ministack":
        # Its server is started by a loop of its own, so that no loop may run yet.
        return emulator_world(request.getfixturevalue("sandbox"))
    return double_world()


@pytest.fixture
async def world(opened: AbstractAsyncContextManager[World]) -> AsyncIterator[World]:
    async with opened as world:
        yield world


@pytest.fixture
def acme() -> Errand:
    """A tenant of which no other test on the same server has heard."""
    return errand(f"acme.{uuid4().hex[:12]}")


async def test_what_is_brought_is_a_key_that_can_be_used(world: World, acme: Errand) -> None:
    secret = new_secret()

    brought = await world.custody.bring(acme, HOME, wrapped(secret))

    assert brought.fingerprint == hashlib.sha256(secret).hexdigest()
    assert brought.made
    assert await world.state_of(brought.arn) == "Enabled"
    assert await world.pointed(brought.alias_arn) == brought.arn
    assert brought.alias_arn.endswith(f":{tenant_alias(acme.tenant)}")


async def test_each_call_gives_the_requests_that_it_made(world: World, acme: Errand) -> None:
    brought = await world.custody.bring(acme, HOME, wrapped(new_secret()))

    operations = [each.operation for each in brought.requests]
    assert {"kms:CreateKey", "kms:ImportKeyMaterial"} <= set(operations)
    assert all(each.request_id for each in brought.requests)
    # The aliases that aren't there yet were asked for.
    assert {each.outcome for each in brought.requests} <= {"ok", "NotFoundException"}


async def test_repeating_it_repeats_nothing(world: World, acme: Errand) -> None:
    key = wrapped(new_secret())
    first = await world.custody.bring(acme, HOME, key)

    again = await world.custody.bring(acme, HOME, key)

    assert (again.arn, again.alias_arn, again.made) == (first.arn, first.alias_arn, False)
    operations = {each.operation for each in again.requests if each.outcome == "ok"}
    assert not operations & {"kms:CreateKey", "kms:ImportKeyMaterial", "kms:CreateAlias", "kms:UpdateAlias"}
    assert await world.count_keys(acme.tenant) == 1


async def test_two_who_bring_it_at_once_get_one_usable_key(world: World, acme: Errand) -> None:
    key = wrapped(new_secret())

    brought = await asyncio.gather(*(world.custody.bring(acme, HOME, key) for _ in range(2)))

    assert len({each.arn for each in brought}) == 1
    assert await world.state_of(brought[0].arn) == "Enabled"


async def test_a_key_made_before_a_death_is_found_again(world: World, acme: Errand) -> None:
    key = wrapped(new_secret())
    first = await world.custody.bring(acme, HOME, key)
    await world.drop_names(first)

    again = await world.custody.bring(acme, HOME, key, begun_before=True)

    assert (again.arn, again.made) == (first.arn, False)
    assert await world.count_keys(acme.tenant) == 1
    assert (await world.custody.bring(acme, HOME, key)).arn == first.arn, "it is marked now"


async def test_other_material_is_another_key_and_the_alias_stays_until_it_is_pointed(
    world: World, acme: Errand
) -> None:
    first = await world.custody.bring(acme, HOME, wrapped(new_secret()))
    second = await world.custody.bring(acme, HOME, wrapped(new_secret()))

    assert second.arn != first.arn
    assert second.alias_arn == first.alias_arn
    assert await world.pointed(first.alias_arn) == first.arn

    pointed = await world.custody.point_alias(acme, second.arn)
    assert (pointed.alias_arn, pointed.arn, pointed.formerly) == (first.alias_arn, second.arn, first.arn)
    assert await world.pointed(first.alias_arn) == second.arn

    again = await world.custody.point_alias(acme, second.arn)
    assert (again.arn, again.formerly) == (second.arn, second.arn)


async def test_material_of_another_tenant_is_refused(world: World, acme: Errand) -> None:
    key, other = wrapped(new_secret()), errand(f"other-{acme.tenant}")
    first = await world.custody.bring(acme, HOME, key)

    with pytest.raises(KeyRefusedError, match="another tenant") as caught:
        await world.custody.bring(other, HOME, key)

    assert acme.tenant not in str(caught.value).replace(other.tenant, "")
    assert await world.count_keys(other.tenant) == 0
    with pytest.raises(KeyRefusedError, match="another tenant"):
        await world.custody.point_alias(other, first.arn)


async def test_deleted_material_comes_back_only_as_the_same_material(world: World, acme: Errand) -> None:
    key = wrapped(new_secret())
    first = await world.custody.bring(acme, HOME, key)
    await world.custody.delete_material(acme, first.arn)
    assert await world.state_of(first.arn) == "PendingImport"

    other = await world.custody.bring(acme, HOME, wrapped(new_secret()))
    assert other.arn != first.arn
    assert await world.state_of(first.arn) == "PendingImport"

    again = await world.custody.bring(acme, HOME, key)
    assert (again.arn, again.made) == (first.arn, False)
    assert await world.state_of(first.arn) == "Enabled"


async def test_a_key_that_is_disabled_or_waits_for_its_deletion_is_not_brought_back_behind_its_back(
    world: World, acme: Errand
) -> None:
    key = wrapped(new_secret())
    first = await world.custody.bring(acme, HOME, key)
    await world.custody.disable(acme, first.arn)

    with pytest.raises(KeyStateError, match="enable it first") as disabled:
        await world.custody.bring(acme, HOME, key)
    assert disabled.value.state == "Disabled"

    await world.custody.schedule_deletion(acme, first.arn)
    with pytest.raises(KeyStateError, match="cancel that first"):
        await world.custody.bring(acme, HOME, key)
    assert await world.count_keys(acme.tenant) == 1


def _damaged(key: WrappedKey, damage: bytes) -> WrappedKey:
    """The same, with something else for a ciphertext."""
    return key.model_copy(update={"wrapped_key": base64.b64encode(damage).decode()})


UNUSABLE: dict[str, WrappedKey] = {
    "another's ciphertext": wrapped_unchecked(new_secret(), key=rsa_key(2048)),
    "cut off": _damaged(wrapped(new_secret()), bytes(255)),
    "not a ciphertext": _damaged(wrapped(new_secret()), new_secret() * 8),
    "another hash": wrapped_unchecked(new_secret(), digest_of=b"another"),
    "too short": wrapped_unchecked(new_secret()[:16]),
    "too long": wrapped_unchecked(new_secret() + b"\n"),
    "weak": wrapped_unchecked(bytes(range(32))),
    "another wrapping key": wrapped(new_secret()).model_copy(update={"wrapping_key": "0" * 64}),
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_what_is_unusable_is_refused_and_nothing_is_made(world: World, acme: Errand, what: str) -> None:
    with pytest.raises(KeyRefusedError) as caught:
        await world.custody.bring(acme, HOME, UNUSABLE[what])

    assert caught.value.field.startswith("key.")
    assert await world.count_keys(acme.tenant) == 0


async def test_an_offer_is_accepted_and_nobody_but_the_service_saw_the_key(
    world: World, acme: Errand
) -> None:
    offer = await world.custody.offer(acme, HOME)
    assert await world.state_of(offer.ref) == "PendingImport"
    assert our_key().public_key() != offer.public_key

    answer = OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, new_secret()))
    accepted = await world.custody.accept(acme, answer)

    assert (accepted.arn, accepted.made) == (offer.ref, True)
    assert await world.state_of(offer.ref) == "Enabled"
    assert await world.pointed(accepted.alias_arn) == offer.ref
    assert accepted.fingerprint.startswith("kms:")
    named = KmsKey(kind="kms", arn=accepted.arn, alias=accepted.alias_arn)
    described = await world.custody.describe(named)
    assert described is not None
    assert described.material_id == accepted.fingerprint.removeprefix("kms:")
    assert any(each.operation == "kms:ImportKeyMaterial" for each in accepted.requests)


async def test_an_offer_is_renewed_for_the_same_key(world: World, acme: Errand) -> None:
    first = await world.custody.offer(acme, HOME)

    again = await world.custody.offer(acme, HOME, first.ref)

    assert again.ref == first.ref
    assert again.import_token != first.import_token
    assert await world.count_keys(acme.tenant) == 1
    await world.custody.accept(
        acme, OfferAnswer(again.ref, again.import_token, wrapped_for(again.public_key, new_secret()))
    )
    with pytest.raises(KeyStateError, match="nothing to offer"):
        await world.custody.offer(acme, HOME, first.ref)


async def test_another_tenants_offer_is_refused(world: World, acme: Errand) -> None:
    offer, other = await world.custody.offer(acme, HOME), errand(f"other-{acme.tenant}")
    answer = OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, new_secret()))

    with pytest.raises(KeyRefusedError, match="another tenant"):
        await world.custody.accept(other, answer)
    with pytest.raises(KeyRefusedError, match="another tenant"):
        await world.custody.offer(other, HOME, offer.ref)
    assert await world.state_of(offer.ref) == "PendingImport"


@pytest.mark.parametrize(
    ("wrong", "field", "advice"),
    [
        ("token", "import_token", "key offer"),
        ("ciphertext", "encrypted_material", "RSA-OAEP"),
        ("length", "encrypted_material", "256 bits"),
        ("ref", "ref", "key offer"),
        ("no ref", "ref", "key offer"),
    ],
)
async def test_a_wrong_answer_to_an_offer_is_refused_with_what_to_do(
    world: World, acme: Errand, wrong: str, field: str, advice: str
) -> None:
    offer = await world.custody.offer(acme, HOME)
    content = new_secret()[:16] if wrong == "length" else new_secret()
    material = wrapped_for(offer.public_key, content)
    token = (await world.custody.offer(acme, HOME)).import_token if wrong == "token" else offer.import_token
    gone = f"{offer.ref.rpartition('/')[0]}/00000000-0000-4000-8000-000000000000"
    ref = {"ref": gone, "no ref": "arn:aws:s3:::byok-acme"}.get(wrong, offer.ref)

    with pytest.raises(KeyRefusedError, match=advice) as caught:
        await world.custody.accept(
            acme, OfferAnswer(ref, token, bytes(512) if wrong == "ciphertext" else material)
        )

    assert caught.value.field == field
    assert await world.state_of(offer.ref) == "PendingImport"


async def test_a_key_is_made_in_the_region_of_its_bucket(world: World, acme: Errand) -> None:
    brought = await world.custody.bring(acme, KeyHome("eu-west-1", "byok-acme"), wrapped(new_secret()))

    assert brought.arn.split(":")[3] == brought.alias_arn.split(":")[3] == "eu-west-1"


async def test_without_a_private_key_of_ours_wrapped_keys_are_refused() -> None:
    world = MemoryWorld()
    world.service.unwrapper = None

    with pytest.raises(RefusedError, match=r"custody\.wrapping"):
        await world.custody.bring(errand("acme"), HOME, wrapped(new_secret()))
