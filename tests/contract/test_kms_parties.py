"""AWS KMS in roles of their own, under the key policies that we write: on a double that heeds both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from rekeyd.custody.aws_kms import AwsKms, KmsRoles
from rekeyd.domain.custody import Errand, OfferAnswer
from rekeyd.domain.errors import (
    CustodyError,
    ForeignKeyError,
    KeyForbiddenError,
    KeyRefusedError,
    UnfitKeyError,
)
from tests.contract.custodies import (
    HOME,
    ROLES,
    DoubleWorld,
    access,
    double_world,
    errand,
    new_secret,
    session_with,
    unwrapper,
    wrapped,
    wrapped_for,
    wrapped_unchecked,
)
from tests.doubles.kms import PROVISION, REVOKE, TOKEN_SECONDS, rsa_key

ACME, OTHER = Errand("acme", "acme-rotate-1"), Errand("other", "other-rotate-1")


@pytest.fixture
async def world() -> AsyncIterator[DoubleWorld]:
    async with double_world() as doubled:
        yield doubled


async def test_each_party_does_its_own_part_and_we_none_of_it(world: DoubleWorld) -> None:
    brought = await world.custody.bring(ACME, HOME, wrapped(new_secret()))
    await world.custody.point_alias(ACME, brought.arn)
    await world.custody.disable(ACME, brought.arn)
    await world.custody.enable(ACME, brought.arn)
    await world.custody.delete_material(ACME, brought.arn)
    await world.custody.schedule_deletion(ACME, brought.arn)

    by = {name: {who for asked, who in world.kms.asked if asked == name} for name, _ in world.kms.asked}
    assert by.pop("AssumeRole") == {"rekeyd-use"}
    for name in ("CreateKey", "GetParametersForImport", "ImportKeyMaterial", "CreateAlias"):
        assert by[name] == {"rekeyd-provision"}
    for name in ("DisableKey", "EnableKey", "DeleteImportedKeyMaterial"):
        assert by[name] == {"rekeyd-revoke"}
    assert by["ScheduleKeyDeletion"] == {"rekeyd-break-glass"}
    assert not any("rekeyd-use" in who for who in by.values())


Call = Callable[[AwsKms, str], Awaitable[object]]
CALLS: dict[str, tuple[KmsRoles, list[Call]]] = {
    "provision": (
        replace(ROLES, provision=REVOKE),
        [lambda custody, arn: custody.point_alias(OTHER, arn)],
    ),
    "revoke": (
        replace(ROLES, revoke=PROVISION),
        [
            lambda custody, arn: custody.disable(ACME, arn),
            lambda custody, arn: custody.enable(ACME, arn),
            lambda custody, arn: custody.delete_material(ACME, arn),
        ],
    ),
    "break_glass": (
        replace(ROLES, break_glass=REVOKE),
        [lambda custody, arn: custody.schedule_deletion(ACME, arn)],
    ),
}


@pytest.mark.parametrize("part", CALLS)
async def test_no_party_can_do_anothers_part(world: DoubleWorld, part: str) -> None:
    """The key's own policy is what refuses: each caller's IAM policies here allow everything."""
    arn = (await world.custody.bring(ACME, HOME, wrapped(new_secret()))).arn
    # One whose alias points nowhere yet, so that it has to be made.
    other = await world.custody.bring(OTHER, HOME, wrapped(new_secret()))
    del world.kms.aliases[other.alias_arn]
    roles, calls = CALLS[part]
    session = session_with("AKIDUSE", "secret")
    async with AwsKms(session, access(world.kms.endpoint_url), roles, unwrapper()) as custody:
        for call in calls:
            with pytest.raises(KeyForbiddenError):
                await call(custody, other.arn if part == "provision" else arn)
    assert await world.state_of(arn) == "Enabled"


async def test_a_session_is_named_after_tenant_and_job(world: DoubleWorld) -> None:
    await world.custody.bring(ACME, HOME, wrapped(new_secret()))

    assert world.kms.sessions == ["rekeyd-acme-acme-rotate-1"]


async def test_without_roles_we_act_as_ourselves_and_the_account_decides() -> None:
    async with double_world(KmsRoles()) as world:
        brought = await world.custody.bring(ACME, HOME, wrapped(new_secret()))
        await world.custody.disable(ACME, brought.arn)
        await world.custody.schedule_deletion(ACME, brought.arn)

        assert {who for _, who in world.kms.asked} == {"rekeyd-use"}
        # Once, and for the account alone.
        assert [name for name, _ in world.kms.asked].count("GetCallerIdentity") == 1


async def test_a_role_that_we_may_not_assume_is_trouble_of_ours_and_not_the_keys(world: DoubleWorld) -> None:
    arn = (await world.custody.bring(ACME, HOME, wrapped(new_secret()))).arn
    world.kms.untrusted.add(REVOKE)

    with pytest.raises(CustodyError, match="trust policy") as caught:
        await world.custody.disable(ACME, arn)

    assert not isinstance(caught.value, KeyForbiddenError | ForeignKeyError)
    assert await world.custody.role_faults(ACME) == {REVOKE: str(caught.value)}  # type: ignore[attr-defined]


async def test_a_silent_sts_does_not_keep_a_key_from_being_disabled() -> None:
    async with double_world(KmsRoles()) as world:
        arn = world.kms.make_key().arn
        world.kms.sts_is_away = True

        assert (await world.custody.disable(ACME, arn)).state == "Disabled"


async def test_material_never_expires_and_the_key_has_its_policy_from_the_first_moment(
    world: DoubleWorld,
) -> None:
    brought = await world.custody.bring(ACME, HOME, wrapped(new_secret()))

    key = world.kms.keys[brought.arn]
    assert key.expiration_model == "KEY_MATERIAL_DOES_NOT_EXPIRE"
    assert {statement["Sid"] for statement in key.policy["Statement"]} >= {
        "RekeydUseThroughBucket",
        "RekeydRevoke",
    }


@pytest.mark.parametrize(
    "operation", ["CreateKey", "CreateAlias", "GetParametersForImport", "ImportKeyMaterial"]
)
async def test_a_lost_answer_makes_no_second_key(world: DoubleWorld, operation: str) -> None:
    key = wrapped(new_secret())
    world.kms.loses_answer_of = operation
    with pytest.raises(CustodyError) as caught:
        await world.custody.bring(ACME, HOME, key)
    assert caught.value.requests[-1].operation == f"kms:{operation}"
    assert caught.value.requests[-1].outcome != "ok"

    again = await world.custody.bring(ACME, HOME, key, begun_before=True)

    assert await world.count_keys("acme") == 1
    assert await world.state_of(again.arn) == "Enabled"
    assert await world.pointed(again.alias_arn) == again.arn


async def test_the_search_turns_pages_and_passes_over_what_it_may_not_see(world: DoubleWorld) -> None:
    for _ in range(3):
        # Without an alias, and with a policy that lets nobody look.
        world.kms.make_key().policy = {"Statement": []}
    key = wrapped(new_secret())
    first = await world.custody.bring(ACME, HOME, key)
    await world.drop_names(first)

    again = await world.custody.bring(ACME, HOME, key, begun_before=True)

    assert again.arn == first.arn
    assert len([name for name, _ in world.kms.asked if name == "ListKeys"]) > 1


async def test_an_offers_token_expires(world: DoubleWorld) -> None:
    offer = await world.custody.offer(ACME, HOME)
    assert offer.expires_at == world.kms.now + TOKEN_SECONDS
    world.advance(TOKEN_SECONDS)

    with pytest.raises(KeyRefusedError, match="has expired: run `rekeyd key offer` again"):
        await world.custody.accept(
            ACME, OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, new_secret()))
        )
    assert await world.state_of(offer.ref) == "PendingImport"


async def test_a_second_import_takes_the_same_material_and_no_other(world: DoubleWorld) -> None:
    secret = new_secret()
    offer = await world.custody.offer(ACME, HOME)
    same = OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, secret))
    first = await world.custody.accept(ACME, same)

    again = await world.custody.accept(ACME, same)
    assert (again.arn, again.fingerprint, again.made) == (first.arn, first.fingerprint, False)

    other = OfferAnswer(offer.ref, offer.import_token, wrapped_for(offer.public_key, new_secret()))
    for deleted in (False, True):
        if deleted:
            await world.custody.delete_material(ACME, offer.ref)
        with pytest.raises(KeyRefusedError, match="other material") as caught:
            await world.custody.accept(ACME, other)
        assert caught.value.requests[-1].outcome == "IncorrectKeyMaterialException"


async def test_whoever_makes_the_key_a_moment_earlier_wins(world: DoubleWorld) -> None:
    key = wrapped(new_secret())
    await world.custody.bring(ACME, HOME, key)
    winner = next(iter(world.kms.keys))
    marks = dict(world.kms.aliases)
    world.kms.aliases.clear()
    world.kms.before["CreateAlias"] = lambda: world.kms.aliases.update(marks)

    brought = await world.custody.bring(ACME, HOME, key)

    assert brought.arn == winner


WRAPPING_KEY = "arn:aws:kms:us-east-1:111122223333:key/00000001-0000-4000-8000-000000000000"


@pytest.fixture
async def kms_unwraps() -> AsyncIterator[DoubleWorld]:
    async with double_world(unwraps_with=WRAPPING_KEY) as doubled:
        assert doubled.kms.make_key(spec="RSA_4096").arn == WRAPPING_KEY
        yield doubled


async def test_a_private_key_in_kms_unwraps_without_leaving_it(kms_unwraps: DoubleWorld) -> None:
    secret = new_secret()

    brought = await kms_unwraps.custody.bring(ACME, HOME, wrapped_unchecked(secret, key=rsa_key(4096)))

    assert await kms_unwraps.state_of(brought.arn) == "Enabled"
    assert {who for name, who in kms_unwraps.kms.asked if name == "Decrypt"} == {"rekeyd-provision"}
    assert "kms:Decrypt" in [each.operation for each in brought.requests]


async def test_kms_says_of_every_unusable_ciphertext_the_same_as_a_file_does(
    kms_unwraps: DoubleWorld,
) -> None:
    said = set()
    for bad in (
        wrapped_unchecked(new_secret(), key=rsa_key(2048)),
        wrapped_unchecked(new_secret(), key=rsa_key(4096)).model_copy(
            update={"wrapped_key": "A" * 684}  # 512 bytes, zero
        ),
    ):
        with pytest.raises(KeyRefusedError) as caught:
            await kms_unwraps.custody.bring(ACME, HOME, bad)
        said.add(str(caught.value))
    async with double_world() as in_file:
        with pytest.raises(KeyRefusedError) as caught:
            await in_file.custody.bring(ACME, HOME, wrapped_unchecked(new_secret(), key=rsa_key(4096)))
        said.add(str(caught.value))

    assert len(said) == 1


@pytest.mark.parametrize(
    ("spec", "usage"),
    [("RSA_2048", "ENCRYPT_DECRYPT"), ("RSA_3072", "ENCRYPT_DECRYPT"), ("RSA_4096", "SIGN_VERIFY")],
)
async def test_another_kind_of_key_in_kms_is_no_wrapping_key(spec: str, usage: str) -> None:
    async with double_world(unwraps_with=WRAPPING_KEY) as world:
        world.kms.make_key(spec=spec).usage = usage

        with pytest.raises(UnfitKeyError, match=f"{spec} for {usage}.*RSA_4096 for ENCRYPT_DECRYPT"):
            await world.custody.bring(ACME, HOME, wrapped(new_secret()))
    assert "Decrypt" not in [name for name, _ in world.kms.asked]


async def test_no_request_but_decrypts_answer_ever_holds_the_key(kms_unwraps: DoubleWorld) -> None:
    secret = new_secret()

    await kms_unwraps.custody.bring(ACME, HOME, wrapped_unchecked(secret, key=rsa_key(4096)))

    sent = b"".join(kms_unwraps.kms.bodies)
    assert secret not in sent
    assert secret.hex().encode() not in sent


async def test_many_errands_side_by_side(world: DoubleWorld) -> None:
    brought = await asyncio.gather(
        *(world.custody.bring(errand(f"tenant-{n}"), HOME, wrapped(new_secret())) for n in range(6))
    )

    assert len({each.arn for each in brought}) == len({each.alias_arn for each in brought}) == 6
    assert ROLES.provision in {f"arn:aws:iam::111122223333:role/{who}" for _, who in world.kms.asked}
