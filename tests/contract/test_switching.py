"""What custody/port.py promises of keys that are switched: in memory, on KMS's emulator, and on our double of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from uuid import uuid4

import pytest

from rekeyd.custody.port import Custody
from rekeyd.domain.custody import Errand, SwitchedKey
from rekeyd.domain.errors import ForeignKeyError, KeyStateError
from tests.contract.custodies import (
    HOME,
    DoubleWorld,
    MemoryWorld,
    World,
    double_world,
    emulator_world,
    errand,
    new_secret,
    wrapped,
)

Switch = Callable[[Custody, Errand, str], Awaitable[SwitchedKey]]

SWITCHES: dict[str, Switch] = {
    "disable": lambda custody, acme, arn: custody.disable(acme, arn),
    "enable": lambda custody, acme, arn: custody.enable(acme, arn),
    "delete_material": lambda custody, acme, arn: custody.delete_material(acme, arn),
    "schedule_deletion": lambda custody, acme, arn: custody.schedule_deletion(acme, arn),
}


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


@pytest.fixture(params=["memory", "double"])
async def strict_world(request: pytest.FixtureRequest) -> AsyncIterator[MemoryWorld | DoubleWorld]:
    """Where states are heeded as AWS heeds them: ministack doesn't."""
    if request.param == "memory":
        yield MemoryWorld()
    else:
        async with double_world() as doubled:
            yield doubled


@pytest.fixture
def acme() -> Errand:
    return errand(f"acme-{uuid4().hex[:12]}")


async def brought(world: World, acme: Errand) -> str:
    return (await world.custody.bring(acme, HOME, wrapped(new_secret()))).arn


async def test_a_key_is_disabled_and_enabled_again_as_often_as_asked(world: World, acme: Errand) -> None:
    arn = await brought(world, acme)

    for _ in range(2):
        switched = await world.custody.disable(acme, arn)
        assert (switched.arn, switched.state) == (arn, "Disabled")
        assert await world.state_of(arn) == "Disabled"
        assert [each.operation for each in switched.requests][-1] == "kms:DisableKey"
        assert switched.requests[-1].request_id
    for _ in range(2):
        assert (await world.custody.enable(acme, arn)).state == "Enabled"
        assert await world.state_of(arn) == "Enabled"


async def test_imported_material_is_deleted_as_often_as_asked(world: World, acme: Errand) -> None:
    arn = await brought(world, acme)

    for _ in range(2):
        switched = await world.custody.delete_material(acme, arn)
        assert switched.state == "PendingImport"
        assert await world.state_of(arn) == "PendingImport"
        assert any(each.operation == "kms:DeleteImportedKeyMaterial" for each in switched.requests)


async def test_a_disabled_keys_material_is_deleted(world: World, acme: Errand) -> None:
    arn = await brought(world, acme)
    await world.custody.disable(acme, arn)

    assert (await world.custody.delete_material(acme, arn)).state == "PendingImport"


async def test_material_that_the_service_made_is_not_ours_to_delete(world: World, acme: Errand) -> None:
    arn = await world.own_key()

    with pytest.raises(ForeignKeyError, match="not imported"):
        await world.custody.delete_material(acme, arn)

    assert await world.state_of(arn) == "Enabled"


async def test_a_key_is_deleted_after_the_longest_wait(world: World, acme: Errand) -> None:
    arn = await brought(world, acme)

    switched = await world.custody.schedule_deletion(acme, arn)

    assert switched.state == "PendingDeletion"
    assert await world.state_of(arn) == "PendingDeletion"
    now = getattr(getattr(world, "kms", world), "now", time.time())
    assert switched.deletes_at is not None
    assert 29.9 < (switched.deletes_at - now) / 86_400 < 30.1


async def test_a_deletion_under_way_keeps_its_date(
    strict_world: MemoryWorld | DoubleWorld, acme: Errand
) -> None:
    arn = await brought(strict_world, acme)
    first = await strict_world.custody.schedule_deletion(acme, arn)
    strict_world.advance(86_400)

    again = await strict_world.custody.schedule_deletion(acme, arn)

    assert (again.state, again.deletes_at) == ("PendingDeletion", first.deletes_at)


@pytest.mark.parametrize("made", ["PendingImport", "PendingDeletion"])
async def test_a_key_that_nobody_can_use_is_disabled_enough_and_not_enabled(
    strict_world: MemoryWorld | DoubleWorld, acme: Errand, made: str
) -> None:
    arn = await brought(strict_world, acme)
    make = SWITCHES["delete_material" if made == "PendingImport" else "schedule_deletion"]
    await make(strict_world.custody, acme, arn)

    assert (await strict_world.custody.disable(acme, arn)).state == made
    with pytest.raises(KeyStateError) as caught:
        await strict_world.custody.enable(acme, arn)

    assert caught.value.state == made
    assert await strict_world.state_of(arn) == made


async def test_material_of_a_key_that_waits_for_its_deletion_is_deleted_and_it_waits_on(
    strict_world: MemoryWorld | DoubleWorld, acme: Errand
) -> None:
    arn = await brought(strict_world, acme)
    await strict_world.custody.schedule_deletion(acme, arn)

    assert (await strict_world.custody.delete_material(acme, arn)).state == "PendingDeletion"


@pytest.mark.parametrize("switch", SWITCHES)
async def test_another_accounts_key_is_never_switched(world: World, acme: Errand, switch: str) -> None:
    theirs = "arn:aws:kms:us-east-1:999988887777:key/theirs"

    with pytest.raises(ForeignKeyError, match="account"):
        await SWITCHES[switch](world.custody, acme, theirs)


@pytest.mark.parametrize("switch", SWITCHES)
async def test_a_key_that_is_not_there_is_said_to_be_missing(world: World, acme: Errand, switch: str) -> None:
    arn = await brought(world, acme)
    gone = f"{arn.rpartition('/')[0]}/00000000-0000-4000-8000-000000000000"

    with pytest.raises(KeyStateError, match="no key") as caught:
        await SWITCHES[switch](world.custody, acme, gone)

    assert caught.value.state == "missing"
